//! Steps of the operating system's clock, as one process sees it: libfaketime, loaded into it,
//! moves what `CLOCK_REALTIME` says and leaves the other clocks alone.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::helpers;

/// Where Debian and Fedora put it, below `/usr`.
const PLACES: [&str; 3] = ["lib", "lib64", "local/lib"];
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The clock of a process that is started with [`Faketime::environment`].
#[derive(Debug)]
pub struct Faketime {
    library: PathBuf,
    file: PathBuf,
}

impl Faketime {
    /// A clock of this name that is right for now; its file lies in `folder`. `None`, with a message, where the
    /// library is missing and nobody requires it.
    ///
    /// # Errors
    /// When it is missing and required, or the file cannot be written.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Option<Self>> {
        let Some(library) = helpers::found("libfaketime", "libfaketime", library())? else {
            return Ok(None);
        };
        let faketime = Self { library, file: folder.join(format!("{name}.faketime")) };
        faketime.step(0)?;
        Ok(Some(faketime))
    }

    /// What to start the process with.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            // Every call looks at the file.
            ("FAKETIME_NO_CACHE", "1".into()),
            // Without this all clocks would jump, the raw one too, which no machine's do.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// Sets the clock so many seconds away from the truth.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn step(&self, seconds: i64) -> anyhow::Result<()> {
        // Renamed into place: the process never sees half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(&new, &self.file)?)
    }
}

/// The library, also in a folder that is named after the processor.
fn library() -> Option<PathBuf> {
    let folders = PLACES.into_iter().flat_map(|place| {
        let base = Path::new("/usr").join(place);
        let below = fs::read_dir(&base).into_iter().flatten().flatten().map(|entry| entry.path());
        let below: Vec<_> = below.collect();
        std::iter::once(base).chain(below)
    });
    folders.map(|folder| folder.join(LIBRARY)).find(|path| path.is_file())
}
