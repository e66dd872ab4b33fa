//! A disk whose syncs take as long as a test wants, or that does not give some files back, as one process
//! sees it: a library of a few lines, loaded into it, that waits before `fdatasync` and `fsync` go on,
//! and lets reads of files end with an error.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::helpers;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int kept_back(int fd) {
    const char *path = getenv("KEPT_BACK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char ending[32] = "", link[64], name[4096];
    if (!file) return 0;
    if (fscanf(file, "%31s", ending) != 1) ending[0] = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    size_t end = strlen(ending);
    if (length < (ssize_t)end || end == 0) return 0;
    return memcmp(name + length - end, ending, end) == 0;
}

ssize_t read(int fd, void *into, size_t count) {
    static ssize_t (*next)(int, void *, size_t);
    if (!next) next = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (kept_back(fd)) { errno = EIO; return -1; }
    return next(fd, into, count);
}

ssize_t pread64(int fd, void *into, size_t count, off64_t at) {
    static ssize_t (*next)(int, void *, size_t, off64_t);
    if (!next) next = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    if (kept_back(fd)) { errno = EIO; return -1; }
    return next(fd, into, count, at);
}

ssize_t pread(int fd, void *into, size_t count, off_t at) { return pread64(fd, into, count, at); }

static long wanted(int fd) {
    const char *path = getenv("SLOW_DISK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    long ms = 0;
    char part[32] = "", link[64], name[4096];
    if (!file) return 0;
    if (fscanf(file, "%ld %31s", &ms, part) < 1) ms = 0;
    fclose(file);
    if (ms == 0 || part[0] == 0) return ms;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return strstr(name, part) ? ms : 0;
}

/* In steps, so that a disk that hangs can be let go. */
static void wait_first(int fd) {
    long waited = 0, left;
    while ((left = wanted(fd) - waited) > 0) {
        long step = left < 100 ? left : 100;
        struct timespec pause = {0, step * 1000000};
        nanosleep(&pause, NULL);
        waited += step;
    }
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first(fd);
    return next(fd);
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first(fd);
    return next(fd);
}
"#;

/// The disk of a process that is started with [`SlowDisk::environment`].
#[derive(Debug)]
pub struct SlowDisk {
    library: PathBuf,
    file: PathBuf,
    kept_back: PathBuf,
}

impl SlowDisk {
    /// A disk of this name that is as fast as it is; its files lie in `folder`. `None`, with a message,
    /// where there is no C compiler and nobody requires one.
    ///
    /// # Errors
    /// When there is none and it is required, or it fails.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Option<Self>> {
        let compiler = Command::new("cc").arg("--version").output().ok().map(drop);
        if helpers::found("cc", "gcc", compiler)?.is_none() {
            return Ok(None);
        }
        let source = folder.join("slow_disk.c");
        let library = folder.join("slow_disk.so");
        if !library.is_file() {
            fs::write(&source, SOURCE)?;
            let made = Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-o"])
                .args([&library, &source])
                .arg("-ldl")
                .output()?;
            let said = String::from_utf8_lossy(&made.stderr);
            anyhow::ensure!(made.status.success(), "cc: {said}");
        }
        let file = folder.join(format!("{name}.slow_disk"));
        let kept_back = file.with_extension("kept_back");
        let disk = Self { library, file, kept_back };
        disk.delay(0)?;
        Ok(Some(disk))
    }

    /// What to start the process with.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("SLOW_DISK_FILE", self.file.clone().into()),
            ("KEPT_BACK_FILE", self.kept_back.clone().into()),
        ]
    }

    /// Every sync that begins from now on waits so long, milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delay(&self, ms: u32) -> anyhow::Result<()> {
        tell(&self.file, &ms.to_string())
    }

    /// The same for syncs of files alone whose path has this part.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delay_of(&self, part: &str, ms: u32) -> anyhow::Result<()> {
        tell(&self.file, &format!("{ms} {part}"))
    }

    /// No file whose name ends so is given back from now on: reads of it end with an error.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep_back(&self, ending: &str) -> anyhow::Result<()> {
        tell(&self.kept_back, ending)
    }
}

fn tell(file: &Path, what: &str) -> anyhow::Result<()> {
    // Renamed into place: the process never sees half of it.
    let new = file.with_extension("new");
    fs::write(&new, format!("{what}\n"))?;
    Ok(fs::rename(&new, file)?)
}
