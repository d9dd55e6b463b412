//! Parts of a machine that can be taken away from those who work on it: room on a disk, a network.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// A small file system of its own; gone when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// So many MiB. None: this process may not mount.
    pub(crate) fn mount(at: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        runs(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at)).then(|| Self(at.to_owned()))
    }

    /// Leaves not a page.
    pub(crate) fn fill(&self) {
        let page = [7_u8; 4096];
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut ballast, &page).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        runs(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// A place with a network of its own and one cable to the outside, which can be pulled; gone when dropped.
pub(crate) struct Island {
    name: String,
    number: u8,
}

impl Island {
    /// None: this process may not make such places.
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let island = Self { name: format!("tower{}-{number}", std::process::id()), number };
        let (name, outside) = (&island.name, island.cable());
        runs(Command::new("ip").args(["netns", "add", name])).then_some(())?;
        let laid = [
            format!("link add {outside} type veth peer name inside netns {name}"),
            format!("addr add {}/30 dev {outside}", island.outside()),
            format!("link set {outside} up"),
            format!("-n {name} addr add {}/30 dev inside", island.inside()),
            format!("-n {name} link set inside up"),
            format!("-n {name} link set lo up"),
        ];
        for order in laid {
            assert!(ip(&order), "ip {order}");
        }
        Some(island)
    }

    /// What starts a program on it.
    pub(crate) fn prefix(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// Where the machine is, seen from there.
    pub(crate) fn outside(&self) -> String {
        format!("10.231.{}.1", self.number)
    }

    fn inside(&self) -> String {
        format!("10.231.{}.2", self.number)
    }

    /// All addresses of the cable.
    pub(crate) fn network(&self) -> String {
        format!("10.231.{}.0/30", self.number)
    }

    /// Pulls the cable: whatever is sent is lost, and nobody is told.
    pub(crate) fn cut(&self) {
        assert!(ip(&format!("-n {} link set inside down", self.name)));
    }

    /// Lets what is sent from there out, and nothing in. False: this machine has no filter of packets.
    pub(crate) fn deafen(&self) -> bool {
        self.filter("-A")
    }

    /// Puts it back.
    pub(crate) fn mend(&self) {
        self.filter("-D");
        assert!(ip(&format!("-n {} link set inside up", self.name)));
    }

    fn filter(&self, how: &str) -> bool {
        runs(Command::new("ip").args(["netns", "exec", &self.name, "iptables", how, "INPUT", "-i", "inside", "-j", "DROP"]))
    }

    fn cable(&self) -> String {
        format!("tw{}", &self.name[5..])
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.cable()));
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(order: &str) -> bool {
    runs(Command::new("ip").args(order.split(' ')))
}

/// Whether a command does what it is asked.
fn runs(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
