//! A disk whose syncs take as long as a test wants, as one process sees it: a library of a few lines,
//! loaded into it, that waits before `fdatasync` and `fsync` go on.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::helpers;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void wait_first(void) {
    const char *path = getenv("SLOW_DISK_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    long ms = 0;
    if (file) {
        if (fscanf(file, "%ld", &ms) != 1) ms = 0;
        fclose(file);
    }
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    if (ms > 0) nanosleep(&pause, NULL);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_first();
    return next(fd);
}

int fsync(int fd) {
    static int (*next)(int);
    if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_first();
    return next(fd);
}
"#;

/// The disk of a process that is started with [`SlowDisk::environment`].
#[derive(Debug)]
pub struct SlowDisk {
    library: PathBuf,
    file: PathBuf,
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
        let disk = Self { library, file: folder.join(format!("{name}.slow_disk")) };
        disk.delay(0)?;
        Ok(Some(disk))
    }

    /// What to start the process with.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("SLOW_DISK_FILE", self.file.clone().into()),
        ]
    }

    /// Every sync that begins from now on waits so long, milliseconds.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delay(&self, ms: u32) -> anyhow::Result<()> {
        // Renamed into place: the process never sees half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{ms}\n"))?;
        Ok(fs::rename(&new, &self.file)?)
    }
}
