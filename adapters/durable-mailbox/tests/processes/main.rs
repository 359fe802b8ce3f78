//! Processes that send, receive, and hand mailboxes over, while they are killed: this program again, in a role.
//!
//! `KILLS`, `HAND_OVERS` and `HAND_OVER_KILLS` say how often, few by default; `TRANSPORT` says over what: `tcp` (the default),
//! `shm`, or, built with `--features verbs`, `rdma`. Those that are named after a transport use that one.

mod actor;
mod carried;
mod hand_over;
mod history;
mod kill;
mod program;
mod sender;

use std::path::Path;

use transport::Reference;

#[test]
fn a_process_in_its_role() {
    let Some(role) = program::role() else { return };
    match &role.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sender", mode, dir, node, address] => {
            sender::send(mode.parse().unwrap(), Path::new(dir), node, address)
        }
        ["receiver", dir, address] => kill::receive(Path::new(dir), address),
        ["home", kind, name, dir, address, other, other_address, create] => {
            let other = Reference {
                node: (*other).into(),
                addresses: vec![(*other_address).into()],
                mailbox: "durable-mailbox home".into(),
            };
            let create = *create == "create";
            actor::live(
                kind.parse().unwrap(),
                name,
                Path::new(dir),
                address,
                &other,
                create,
            );
        }
        other => panic!("{other:?}"),
    }
}
