//! Who a process acts for: the accounts of `/etc/passwd`, or the virtual users of an embedded
//! cluster. Read by hand, because a static C library has no name service to ask.

use std::ffi::OsStr;
use std::fs;

use serde::{Deserialize, Serialize};

/// Numbers shown for virtual users: the first is 2001, as for the accounts of the container cluster.
pub(crate) const FIRST_VIRTUAL_UID: u32 = 2001;

/// A user of the cluster, as its listings show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// The ids that the kernel knows a job's processes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OsIds {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The account of one line of `/etc/passwd`.
fn parse_passwd_line(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields[..] else {
        return None;
    };
    Some(Account {
        name: name.into(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.into(),
    })
}

fn passwd() -> Vec<Account> {
    fs::read_to_string("/etc/passwd")
        .map(|text| text.lines().filter_map(parse_passwd_line).collect())
        .unwrap_or_default()
}

/// The account that this process runs as.
pub(crate) fn own() -> Account {
    let uid = nix::unistd::geteuid().as_raw();
    passwd()
        .into_iter()
        .find(|account| account.uid == uid)
        .unwrap_or_else(|| Account {
            name: uid.to_string(),
            uid,
            gid: nix::unistd::getegid().as_raw(),
            home: "/".into(),
        })
}

/// The name of the account that `text` names, or whose number it is: one of `virtual_users` if there are
/// any.
pub(crate) fn named(text: &str, virtual_users: &[Account]) -> Option<String> {
    let listed;
    let all = if virtual_users.is_empty() {
        listed = passwd();
        &listed[..]
    } else {
        virtual_users
    };
    let by_name = all.iter().find(|account| account.name == text);
    let is_it = |account: &&Account| text.parse() == Ok(account.uid);
    let found = by_name.or_else(|| all.iter().find(is_it));
    found.map(|account| account.name.clone())
}

/// Whom an applet acts for: `claimed` among the virtual users, else the account of this process.
pub(crate) fn acting(virtual_users: &[Account], claimed: Option<&OsStr>) -> Account {
    virtual_users
        .iter()
        .find(|account| claimed.is_some_and(|claimed| claimed == account.name.as_str()))
        .cloned()
        .unwrap_or_else(own)
}

/// The ids of this process, with the supplementary groups that `/etc/group` gives `name`.
pub(crate) fn os_ids(name: &str) -> OsIds {
    let gid = nix::unistd::getegid().as_raw();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields[..] else {
            return None;
        };
        members
            .split(',')
            .any(|member| member == name)
            .then(|| gid.parse().ok())
            .flatten()
    });
    OsIds {
        uid: nix::unistd::geteuid().as_raw(),
        gid,
        groups: std::iter::once(gid)
            .chain(groups.filter(|&group| group != gid))
            .collect(),
    }
}

/// The name of a group, or its number.
pub(crate) fn group_name(gid: u32, virtual_users: &[Account]) -> String {
    if let Some(account) = virtual_users.iter().find(|account| account.gid == gid) {
        return account.name.clone();
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
        })
        .unwrap_or_else(|| gid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_passwd_line() {
        let alice = parse_passwd_line("alice:x:2001:2002:Alice:/home/alice:/bin/bash").unwrap();
        assert_eq!(
            (alice.uid, alice.gid, alice.home.as_str()),
            (2001, 2002, "/home/alice")
        );
        assert_eq!(parse_passwd_line("alice:x:2001"), None);
    }

    #[test]
    fn a_user_is_named_by_name_or_by_number() {
        let user = |name: &str, uid| Account {
            name: name.into(),
            uid,
            gid: uid,
            home: "/h".into(),
        };
        let users = [user("alice", 2001), user("2001", 2002)];
        for (text, name) in [("alice", "alice"), ("2001", "2001"), ("2002", "2001")] {
            assert_eq!(named(text, &users).as_deref(), Some(name));
        }
        assert_eq!(named("2003", &users), None);
        assert_eq!(named("0", &[]).as_deref(), Some("root"));
    }

    #[test]
    fn only_a_listed_virtual_user_can_be_claimed() {
        let alice = Account {
            name: "alice".into(),
            uid: 2001,
            gid: 2001,
            home: "/h".into(),
        };
        let users = [alice.clone()];
        assert_eq!(acting(&users, Some(OsStr::new("alice"))), alice);
        assert_eq!(acting(&users, Some(OsStr::new("bob"))), own());
        assert_eq!(acting(&[], Some(OsStr::new("alice"))), own());
    }
}
