//! Hosts that are network namespaces of this machine: each with an address of its own, all on one
//! bridge, and nothing of the machine's own network. What goes from one to another can be dropped,
//! in one direction alone.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;

use crate::helpers;
use crate::logd::Logd;
use crate::user::User;

/// Namespaces have names for the whole machine.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Hosts, numbered from 1. All that runs in them ends, and they go, when this is dropped.
#[derive(Debug)]
pub struct Hosts {
    stem: String,
    count: u8,
}

impl Hosts {
    /// Makes hosts. `None`, with a message, where `ip` and `nft` are missing and nobody requires
    /// them.
    ///
    /// # Errors
    /// When they are missing and required, when this is not root, or when the system refuses.
    pub fn new(count: u8) -> anyhow::Result<Option<Self>> {
        let tools = ["ip", "nft"].map(is_there);
        let tools = (tools == [true, true]).then_some(());
        if helpers::found("ip and nft", "iproute2 and nftables", tools)?.is_none() {
            return Ok(None);
        }
        anyhow::ensure!(
            rustix::process::geteuid().is_root(),
            "network namespaces are made by root alone: run the tests as root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let hosts = Self { stem: format!("logd-{}-{number}", std::process::id()), count };
        hosts.build()?;
        Ok(Some(hosts))
    }

    fn build(&self) -> anyhow::Result<()> {
        let bridge = self.bridge();
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", "br0", "up"])?;
        for host in 1..=self.count {
            let (name, port) = (self.name(host), format!("port{host}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            let veth = ["-n", &name, "link", "add", "eth0", "type", "veth"];
            ip(&[&veth[..], &["peer", "name", &port, "netns", &bridge]].concat())?;
            ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"])?;
            let address = format!("{}/24", Self::address(host));
            ip(&["-n", &name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
            let table = "table inet cut { chain in { type filter hook input priority 0; }; }";
            self.nft(host, table)?;
        }
        Ok(())
    }

    /// Address of a host, the same in every set of hosts: none of them can see another.
    #[must_use]
    pub fn address(host: u8) -> String {
        format!("10.83.7.{host}")
    }

    /// Words in front of a command that is to run on a host.
    #[must_use]
    pub fn prefix(&self, host: u8) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(host)].map(str::to_owned).to_vec()
    }

    /// A user who sits at a host.
    #[must_use]
    pub fn user(&self, host: u8, user: &User) -> User {
        user.clone().through(self.prefix(host))
    }

    /// Places a node on a host, from its next start on.
    pub fn place(&self, host: u8, node: &mut Logd) {
        node.set_prefix(self.prefix(host));
    }

    /// Drops, from now on, every packet that goes from one host to another; those of the other
    /// direction pass.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, from: u8, to: u8) -> anyhow::Result<()> {
        let from = Self::address(from);
        self.nft(to, &format!("add rule inet cut in ip saddr {from} counter drop"))
    }

    /// Lets everything pass to a host again. Returns how many packets were dropped: a cut that
    /// dropped nothing was none.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mend(&self, to: u8) -> anyhow::Result<u64> {
        let listed = run(self.command(to, &["nft", "list", "chain", "inet", "cut", "in"]))?;
        self.nft(to, "flush chain inet cut in")?;
        let count = |rest: &str| rest.split_whitespace().next()?.parse::<u64>().ok();
        Ok(listed.split("counter packets").skip(1).filter_map(count).sum())
    }

    /// Processes that run on a host, in order.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn pids(&self, host: u8) -> anyhow::Result<Vec<u32>> {
        let text = ip(&["netns", "pids", &self.name(host)])?;
        let pids = text.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>();
        let mut pids = pids.context(text)?;
        pids.sort_unstable();
        Ok(pids)
    }

    /// UDP ports that are taken on a host, in order.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn udp_ports(&self, host: u8) -> anyhow::Result<Vec<u16>> {
        let text = run(self.command(host, &["cat", "/proc/net/udp", "/proc/net/udp6"]))?;
        let local = text.lines().filter_map(|line| line.split_whitespace().nth(1));
        let port = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
        let mut ports: Vec<u16> = local.filter_map(port).collect();
        ports.sort_unstable();
        Ok(ports)
    }

    fn nft(&self, host: u8, rules: &str) -> anyhow::Result<()> {
        run(self.command(host, &["nft", rules])).map(drop)
    }

    fn command(&self, host: u8, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).args(words);
        command
    }

    fn name(&self, host: u8) -> String {
        format!("{}-{host}", self.stem)
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.stem)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let all = (1..=self.count).map(|host| self.name(host)).chain([self.bridge()]);
        for name in all {
            // Whatever fails here was not made, or is gone.
            let pids = ip(&["netns", "pids", &name]).unwrap_or_default();
            for pid in pids.split_whitespace() {
                let _ = run_quietly("kill", &["-KILL", pid]);
            }
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn is_there(program: &str) -> bool {
    run_quietly(program, &["-V"]).is_ok()
}

fn run_quietly(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    run(command)
}

fn ip(args: &[&str]) -> anyhow::Result<String> {
    run_quietly("ip", args)
}

fn run(mut command: Command) -> anyhow::Result<String> {
    let out = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    anyhow::ensure!(out.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a datagram comes to a port where nobody listens, and the refusal of it comes back.
    fn answers(hosts: &Hosts, from: u8, to: u8) -> bool {
        // `read` ends with more than 128 when its time is over, and with 1 when it is refused.
        let to = Hosts::address(to);
        let ask = format!("exec 3<>/dev/udp/{to}/9; echo hi >&3; read -t 1 -u 3; [ $? -eq 1 ]");
        hosts.command(from, &["bash", "-c", &ask]).output().unwrap().status.success()
    }

    #[test]
    fn a_cut_drops_what_comes_from_one_host_and_counts_it() {
        let Some(hosts) = Hosts::new(3).unwrap() else { return };
        assert!(answers(&hosts, 1, 2) && answers(&hosts, 2, 1));
        hosts.cut(1, 2).unwrap();
        assert!(!answers(&hosts, 1, 2));
        // Host 2 takes nothing from 1, and everything from 3; host 1 drops nothing.
        assert!(answers(&hosts, 3, 2) && answers(&hosts, 3, 1));
        assert_eq!(hosts.mend(1).unwrap(), 0);
        assert!(hosts.mend(2).unwrap() > 0);
        assert!(answers(&hosts, 1, 2) && answers(&hosts, 2, 1));
        let stem = hosts.stem.clone();
        drop(hosts);
        assert!(!ip(&["netns", "list"]).unwrap().contains(&stem));
    }
}
