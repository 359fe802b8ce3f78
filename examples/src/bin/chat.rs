//! A chat room: `chat room ADDRESS`, and for each guest `chat join ADDRESS NAME`. Guests see who comes, who goes (also when
//! they are killed), and what is said; lines of input are said.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::process::ExitCode;

use examples::Outcome;
use serde::{Deserialize, Serialize};
use transport::typed::{Address, Postcard, Protocol, RecvError, Reference};
use transport::{MailboxOptions, Overflow};

/// What the room is told.
#[derive(Debug, Serialize, Deserialize)]
enum ToRoom {
    /// Somebody wants in, and hears what is said at `ear`.
    Join {
        name: String,
        ear: Reference<ToGuest>,
    },
    Say {
        name: String,
        what: String,
    },
    /// The room tells itself, when a guest's mailbox is gone.
    Left {
        name: String,
    },
}

/// What a guest is told.
#[derive(Debug, Serialize, Deserialize)]
enum ToGuest {
    Joined {
        name: String,
    },
    Left {
        name: String,
    },
    Said {
        name: String,
        what: String,
    },
    /// The name is taken.
    Refused,
    /// A guest tells itself, when the room is gone.
    RoomClosed,
}

impl Protocol for ToRoom {
    const NAME: &'static str = "chat room";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

impl Protocol for ToGuest {
    const NAME: &'static str = "chat guest";
    const VERSION: u16 = 1;
    type Codec = Postcard;
}

fn room(address: &str) -> Outcome {
    let node = examples::node("room").listen(address).start()?;
    let mut inbox = node.typed_mailbox::<ToRoom>("room", MailboxOptions::default())?;
    let mut guests: BTreeMap<String, Address<ToGuest>> = BTreeMap::new();
    println!("open at {}", node.addresses()[0]);
    loop {
        let news = match inbox.recv() {
            Ok(message) => message.body,
            Err(RecvError::Undecodable(_)) => continue, // counted, and a dead letter
            Err(closed) => return Err(closed.into()),
        };
        let told = match news {
            ToRoom::Join { name, ear } => {
                // Over the session that the guest made, or, if it listens, one to there.
                let Ok(guest) = node.resolve_typed(&ear) else {
                    continue;
                };
                if guests.contains_key(&name) {
                    let _ = guest.try_send(&ToGuest::Refused);
                    continue;
                }
                for present in guests.keys() {
                    let name = present.clone();
                    let _ = guest.try_send(&ToGuest::Joined { name });
                }
                let leaver = name.clone();
                inbox.watch(&guest, move |_gone| ToRoom::Left { name: leaver });
                guests.insert(name.clone(), guest);
                ToGuest::Joined { name }
            }
            ToRoom::Say { name, what } => ToGuest::Said { name, what },
            ToRoom::Left { name } => {
                guests.remove(&name);
                ToGuest::Left { name }
            }
        };
        for guest in guests.values() {
            // A guest's mailbox drops its oldest, so it never holds up the room; one that is gone has left in a moment.
            let _ = guest.try_send(&told);
        }
    }
}

fn join(address: &str, name: &str) -> Outcome {
    let node = examples::node(&format!("{name} {}", std::process::id())).start()?;
    let options = MailboxOptions {
        capacity: 256,
        overflow: Overflow::DropOldest,
        ..MailboxOptions::default()
    };
    let mut inbox = node.typed_mailbox::<ToGuest>("ear", options)?;
    let room = node.connect(address)?.typed_address::<ToRoom>("room")?;
    inbox.watch(&room, |_gone| ToGuest::RoomClosed);
    let ear = node.typed_address::<ToGuest>("ear")?.reference();
    let name = name.to_owned();
    room.send(&ToRoom::Join {
        name: name.clone(),
        ear,
    })?;
    std::thread::spawn(move || {
        for what in std::io::stdin().lock().lines().map_while(Result::ok) {
            let name = name.clone();
            if let Err(error) = room.send(&ToRoom::Say { name, what }) {
                eprintln!("{error}");
            }
        }
        // The end of the input is this guest's end.
        std::process::exit(0);
    });
    loop {
        match inbox.recv()?.body {
            ToGuest::Joined { name } => println!("{} is here", name.escape_debug()),
            ToGuest::Left { name } => println!("{} has left", name.escape_debug()),
            ToGuest::Said { name, what } => println!("{}: {}", name.escape_debug(), what.escape_debug()),
            ToGuest::Refused => return Err("somebody of that name is here already".into()),
            ToGuest::RoomClosed => return Err("the room is closed".into()),
        }
    }
}

fn main() -> ExitCode {
    examples::main(|arguments| match arguments {
        ["room", address] => room(address),
        ["join", address, name] => join(address, name),
        _ => Err("chat room ADDRESS, or chat join ADDRESS NAME".into()),
    })
}
