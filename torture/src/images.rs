//! A disk whose power can be cut: an ext4 file system in an image, and the image in an XFS that can
//! make a second name for the same blocks at one instant (reflink). That second image is the disk as
//! it was then: nothing of what ext4 had not written is in it.
//!
//! The image passes for a disk that keeps what it has taken: a cache inside the disk is not cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::ioctl_ficlone;

use crate::run::Stop;
use crate::work::{tool, unmount};

/// Sizes of the two; both take only the room that is used.
const XFS_BYTES: u64 = 8 << 30;
const EXT4_BYTES: u64 = 3 << 30;

/// The disk, mounted. It is unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct Images {
    /// Where the XFS is mounted.
    outer: PathBuf,
    /// Where the disk is mounted.
    disk: PathBuf,
    /// Cuts so far; the image has this number.
    cuts: u32,
}

/// A cut that only waits for its moment.
#[derive(Debug)]
pub(crate) struct Cut {
    from: File,
    to: File,
}

impl Cut {
    /// Now. Returns when the copy is there; what is written meanwhile is not in it.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn now(self) -> anyhow::Result<()> {
        Ok(ioctl_ficlone(self.to, self.from)?)
    }
}

impl Images {
    /// Makes one below `work`.
    ///
    /// # Errors
    /// [`Stop::Unavailable`] where that needs what this machine has not.
    pub(crate) fn make(work: &Path) -> Result<Self, Stop> {
        if !rustix::process::geteuid().is_root() {
            return Err(Stop::Unavailable("file systems are mounted by root alone".to_owned()));
        }
        Self::try_make(work).map_err(|error| {
            let text = format!("no file systems in loop devices here: {error:#}");
            Stop::Unavailable(format!("{text}; tools/setup torture installs what they need"))
        })
    }

    fn try_make(work: &Path) -> anyhow::Result<Self> {
        let images = Self { outer: work.join("xfs"), disk: work.join("disk"), cuts: 0 };
        fs::create_dir(&images.outer)?;
        fs::create_dir(&images.disk)?;
        let outer = work.join("xfs.img");
        File::create_new(&outer)?.set_len(XFS_BYTES)?;
        tool("mkfs.xfs", &["-q", "-m", "reflink=1", text(&outer)?])?;
        // What is removed takes no room behind it either.
        mount("loop,discard", &outer, &images.outer)?;
        let image = images.image(0);
        File::create_new(&image)?.set_len(EXT4_BYTES)?;
        tool("mkfs.ext4", &["-q", "-F", "-m", "0", "-N", "16384", text(&image)?])?;
        mount("loop", &image, &images.disk)?;
        // Only here does it show whether the copy can be made.
        images.ready()?.now()?;
        fs::remove_file(images.image(1))?;
        Ok(images)
    }

    /// Where the disk is mounted.
    pub(crate) fn disk(&self) -> &Path {
        &self.disk
    }

    fn image(&self, number: u32) -> PathBuf {
        self.outer.join(format!("disk-{number}.img"))
    }

    /// Gets everything ready, so that the cut itself is one call.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(crate) fn ready(&self) -> anyhow::Result<Cut> {
        let from = File::open(self.image(self.cuts))?;
        Ok(Cut { from, to: File::create_new(self.image(self.cuts + 1))? })
    }

    /// Mounts what the cut has left in place of the disk, which nobody may use any more. The image as
    /// the cut has left it stays beside it until the next one.
    ///
    /// # Errors
    /// When something cannot be mounted or unmounted.
    pub(crate) fn go_on_from_cut(&mut self) -> anyhow::Result<()> {
        unmount(&self.disk)?;
        fs::remove_file(self.image(self.cuts))?;
        self.cuts += 1;
        let (image, untouched) = (self.image(self.cuts), self.outer.join("as-cut.img"));
        ioctl_ficlone(File::create(untouched)?, File::open(&image)?)?;
        mount("loop", &image, &self.disk)
    }
}

/// A folder in which copies of files take no time and no room, where that works; else any folder.
///
/// # Errors
/// When not even that can be made.
pub(crate) fn reflinking(work: &Path) -> anyhow::Result<PathBuf> {
    let (image, place) = (work.join("xfs.img"), work.join("xfs"));
    fs::create_dir(&place)?;
    let made = || {
        File::create_new(&image)?.set_len(XFS_BYTES)?;
        tool("mkfs.xfs", &["-q", "-m", "reflink=1", text(&image)?])?;
        mount("loop,discard", &image, &place)
    };
    // Without it everything is the same, and slower.
    if made().is_err() && image.exists() {
        fs::remove_file(&image)?;
    }
    Ok(place)
}

impl Drop for Images {
    fn drop(&mut self) {
        // What does not go is released with the folder of the run, which says so.
        let _ = unmount(&self.disk).and_then(|()| unmount(&self.outer));
    }
}

fn mount(options: &str, what: &Path, place: &Path) -> anyhow::Result<()> {
    tool("mount", &["-o", options, text(what)?, text(place)?])
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().ok_or_else(|| anyhow::anyhow!("{} is no text", path.display()))
}
