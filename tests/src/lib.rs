//! What only the whole can show: two processes, kills, soft-RoCE and DAX.
