//! What two guests on one network show: they boot once, and each test looks at its part of what they said.

use std::sync::LazyLock;

use crate::program::{Ran, in_guest, whole_machine};

static BOOT: LazyLock<Ran> = LazyLock::new(|| {
    let _machine = whole_machine();
    let line =
        "busybox ping -c 2 -W 20 $NODE1_ADDRESS >/dev/null && busybox ping -c 2 -W 20 node2 >/dev/null &&
                echo node $NODE of $NODES pinged
                tc qdisc add dev eth0 root netem delay 1ms loss 1% || exit 9
                write() { timeout 150 ib_write_lat -d $SOFT_ROCE_DEVICE -s 64 -n 50 $1 >&2 && echo written over loss; }
                if [ $NODE = 1 ]; then write
                # Until the other listens.
                else for attempt in $(seq 60); do write $NODE1_ADDRESS && break; sleep 1; done
                fi
                printf half; [ $NODE = 1 ] || exit 7";
    in_guest(&["--nodes", "2"], line)
});

/// What a node said, without its number.
fn said_by(node: u32) -> Vec<&'static str> {
    let number = format!("[{node}] ");
    BOOT.stdout
        .lines()
        .filter_map(|line| line.strip_prefix(&number))
        .collect()
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn two_nodes_reach_each_other_and_the_first_failure_counts() {
    assert_eq!(BOOT.status, Some(7), "{}", BOOT.stderr);
    for node in [1, 2] {
        let said = said_by(node);
        let first = format!("node {node} of 2 pinged");
        assert_eq!(said.first(), Some(&first.as_str()), "{}", BOOT.stderr);
        assert_eq!(said.last(), Some(&"half"), "{}", BOOT.stderr);
    }
}

#[test]
#[ignore = "needs QEMU and the guest packages"]
fn two_nodes_speak_rdma_and_loss_can_be_put_between_them() {
    for node in [1, 2] {
        assert!(
            said_by(node).contains(&"written over loss"),
            "node {node}: {}{}",
            BOOT.stdout,
            BOOT.stderr
        );
    }
}
