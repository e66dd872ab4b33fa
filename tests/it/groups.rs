//! A distributed chat: groups, and everybody talking at once.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::patience::{until, when};
use tests::{Cluster, Follower, User};

/// People in the chat, and what each of them says.
const CHATTERS: usize = 50;
const LINES: usize = 20;

/// Numbers and bodies of what somebody is shown of a stream.
fn shown(user: &User, who: &str, to: &str, via: &str) -> Vec<(u64, String)> {
    let read = user.json(&["--as", who, "read", "--to", to, "--via", via]).unwrap();
    let rows = read.as_array().unwrap().iter();
    rows.map(|row| (row["seq"].as_u64().unwrap(), row["body"].as_str().unwrap().to_owned()))
        .collect()
}

fn bodies(shown: &[(u64, String)]) -> Vec<&str> {
    shown.iter().map(|(_, body)| body.as_str()).collect()
}

#[test]
fn groups_share_one_record() {
    let cluster = Cluster::start(3).unwrap();
    cluster.register(&["alice", "bob", "carol", "dave"]).unwrap();
    let user = cluster.user();
    let say = |who: &str, to: &str, id: &str| {
        user.json(&["--as", who, "send", "--to", to, "--id", id, id]).unwrap()
    };
    user.ok(&["--as", "alice", "group", "create", "ops"]).unwrap();
    user.ok(&["--as", "alice", "group", "add", "ops", "bob", "carol"]).unwrap();
    let ack = say("alice", "@ops", "first");
    // The same record for everyone, through every node.
    let mut seen = BTreeSet::new();
    for (who, via) in [("alice", "n1"), ("bob", "n2"), ("carol", "n3"), ("bob", "n1")] {
        let read = user.json(&["--as", who, "read", "--to", "@ops", "--via", via]).unwrap();
        let row = read.as_array().unwrap().iter().find(|row| row["id"] == "first");
        let row = row.unwrap_or_else(|| panic!("{who} at {via}: {read}"));
        seen.insert((row["seq"].to_string(), row["stamp"].to_string()));
    }
    assert_eq!(seen, BTreeSet::from([(ack["seq"].to_string(), ack["stamp"].to_string())]));
    // Who is no member neither sends nor reads.
    let before = cluster.records("n1", false).unwrap().len();
    user.refused(&["--as", "dave", "send", "--to", "@ops", "hi"], 4).unwrap();
    user.refused(&["--as", "dave", "read", "--to", "@ops"], 4).unwrap();
    user.refused(&["--as", "alice", "send", "--to", "@nobody", "hi"], 5).unwrap();
    user.refused(&["--as", "bob", "group", "create", "ops"], 6).unwrap();
    user.refused(&["--as", "alice", "group", "add", "ops", "mallory"], 5).unwrap();
    assert_eq!(cluster.records("n1", false).unwrap().len(), before);
    // From the joining point to the leaving point, in one order with the messages.
    user.ok(&["--as", "alice", "group", "add", "ops", "dave"]).unwrap();
    say("bob", "@ops", "second");
    user.ok(&["--as", "alice", "group", "remove", "ops", "bob"]).unwrap();
    say("carol", "@ops", "third");
    let carol = shown(user, "carol", "@ops", "n2");
    let dave = shown(user, "dave", "@ops", "n3");
    let wanted = [
        "alice added bob, carol",
        "first",
        "alice added dave",
        "second",
        "alice removed bob",
        "third",
    ];
    assert_eq!(bodies(&carol), wanted);
    assert_eq!(bodies(&dave), wanted[2..]);
    assert_eq!(dave, carol[2..], "one order for all");
    user.refused(&["--as", "bob", "send", "--to", "@ops", "hi"], 4).unwrap();
    // Whoever has left still has what was sent to him while he was there, and no more.
    let bobs = user.json(&["--as", "bob", "read"]).unwrap();
    let bobs: Vec<_> = bobs.as_array().unwrap().iter().map(|row| row["body"].clone()).collect();
    assert!(bobs.contains(&Value::from("first")) && bobs.contains(&Value::from("second")));
    assert!(!bobs.contains(&Value::from("third")), "{bobs:?}");
    // Everybody.
    say("dave", "*", "to-all");
    for who in ["alice", "bob", "carol"] {
        let read = user.json(&["--as", who, "read"]).unwrap();
        let rows = read.as_array().unwrap();
        assert_eq!(rows.iter().filter(|row| row["body"] == "to-all").count(), 1, "{who}: {read}");
    }
    user.ok(&["--as", "alice", "group", "delete", "ops"]).unwrap();
    user.refused(&["--as", "carol", "send", "--to", "@ops", "hi"], 5).unwrap();
}

/// What somebody in a chat was shown: number, sender, sentence.
fn transcript(follower: &Follower) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line =
        |line: Value| (line["seq"].as_u64().unwrap(), text(&line["from"]), text(&line["body"]));
    let said = |line: &(u64, String, String)| line.2.contains(" says ");
    follower.lines().unwrap().into_iter().map(line).filter(said).collect()
}

#[test]
fn fifty_chatters_see_the_same() {
    let cluster = Cluster::start(3).unwrap();
    let names: Vec<String> = (0..CHATTERS).map(|n| format!("u{n}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    cluster.register(&all).unwrap();
    let user = cluster.user();
    user.ok(&["group", "create", "ops"]).unwrap();
    user.ok(&[&["group", "add", "ops"], &all[..]].concat()).unwrap();
    let chat = |name: &str| {
        let args = ["--as", name, "chat", "--to", "@ops", "-o", "ndjson"];
        Follower::start(user, &args, cluster.folder(), name).unwrap()
    };
    let mut chats: Vec<_> = all.iter().map(|name| chat(name)).collect();
    // A chat shows what comes from when it has begun, and says when that is.
    for chat in &chats {
        let begun = || chat.said().contains("chatting as");
        until("a chat that has begun", || when(begun(), chat.said())).unwrap();
    }
    user.ok(&["send", "--to", "@ops", "the admin says hello"]).unwrap();
    for chat in &chats {
        let hello = |lines: &[String]| lines.iter().any(|line| line.contains("says hello"));
        chat.wait("the first word", |lines| hello(lines).then_some(())).unwrap();
    }
    for round in 0..LINES {
        for (chat, name) in chats.iter_mut().zip(&names) {
            chat.types(&format!("{name} says {round}\n")).unwrap();
        }
    }
    let wanted = CHATTERS * LINES + 1;
    for chat in &chats {
        let count = |lines: &[String]| lines.iter().filter(|line| line.contains(" says ")).count();
        chat.wait("all that was said", |lines| (count(lines) >= wanted).then_some(())).unwrap();
    }
    let first = transcript(&chats[0]);
    assert_eq!(first.len(), wanted);
    assert!(first.windows(2).all(|two| two[0].0 < two[1].0), "not in the order of the log");
    for (chat, name) in chats.iter().zip(&names) {
        assert_eq!(transcript(chat), first, "{name}: {}", chat.said());
        // What one person says stands in the order in which it was said.
        let own = first.iter().filter(|line| line.1 == *name).map(|line| line.2.clone());
        let wanted = (0..LINES).map(|round| format!("{name} says {round}"));
        assert!(own.eq(wanted), "{name}");
    }
    for chat in &mut chats {
        assert_eq!(chat.stop().unwrap(), 0, "{}", chat.said());
    }
}
