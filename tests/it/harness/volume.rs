//! A small tmpfs that a test can fill up.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::process::Capture;
use super::{SOON, TestDir};

/// A tmpfs that is unmounted at the end of the test.
///
/// If the test may not mount, the tmpfs lies in a mount namespace that a process keeps open.
/// Programs are then started in that namespace.
pub struct Volume {
    dir: TestDir,
    keeper: Option<Child>,
}

impl Volume {
    /// Mounts a tmpfs with these options, such as `size=8m,nr_inodes=100`.
    #[track_caller]
    pub fn mount(options: &str) -> Self {
        let dir = TestDir::new();
        let at = dir.folder("volume");
        let mounted = run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]);
        let keeper = mounted.err().map(|why| Self::keep(&at, options, &why));
        Self { dir, keeper }
    }

    /// Mounts a tmpfs in a new mount namespace.
    #[track_caller]
    fn keep(at: &Path, options: &str, why: &str) -> Child {
        let script = r#"mount -t tmpfs -o "$1" tmpfs "$2" && echo mounted && exec cat"#;
        let mut keeper = Command::new("unshare")
            .args(["-rm", "sh", "-c", script, "sh", options])
            .arg(at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("this test needs mount ({why}) or unshare ({e})"));
        let (stdout, stderr) = (
            Capture::of(keeper.stdout.take().unwrap()),
            Capture::of(keeper.stderr.take().unwrap()),
        );
        stdout.wait_for(SOON, "a file system in a namespace", |text| {
            let ended = keeper.try_wait().unwrap();
            let problem = stderr.text();
            assert!(ended.is_none(), "this test needs mount ({why}) or unshare -rm ({problem})");
            text.contains("mounted").then_some(())
        });
        keeper
    }

    /// Mounts another tmpfs at a folder of this one, until the result is dropped.
    #[track_caller]
    pub fn mount_inside(&self, folder: &str) -> NestedMount<'_> {
        let at = self.inside().join(folder);
        self.run("mount", &["-t", "tmpfs", "tmpfs", at.to_str().unwrap()]).unwrap();
        NestedMount { volume: self, at }
    }

    /// Runs a program in the namespace of the volume.
    fn run(&self, program: &str, args: &[&str]) -> Result<(), String> {
        let mut words = self.under();
        words.push(program.to_owned());
        let args: Vec<&str> =
            words[1..].iter().map(String::as_str).chain(args.iter().copied()).collect();
        run(&words[0], &args)
    }

    /// Returns the command line that executes a program in the namespace of the volume.
    pub fn under(&self) -> Vec<String> {
        let Some(keeper) = &self.keeper else { return Vec::new() };
        [
            "nsenter",
            "--target",
            &keeper.id().to_string(),
            "--user",
            "--mount",
            "--preserve-credentials",
            "--",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Returns the path for programs that are started by [`Self::under`].
    pub fn inside(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    /// Returns the path for the test itself.
    pub fn path(&self) -> PathBuf {
        let inside = self.inside();
        match &self.keeper {
            None => inside,
            Some(keeper) => Path::new("/proc")
                .join(keeper.id().to_string())
                .join("root")
                .join(inside.strip_prefix("/").unwrap()),
        }
    }

    /// Returns the number of free bytes.
    pub fn free(&self) -> u64 {
        let fs = nix::sys::statvfs::statvfs(&self.path()).unwrap();
        fs.blocks_available() * fs.fragment_size()
    }

    /// Returns the number of free inodes.
    pub fn free_inodes(&self) -> u64 {
        nix::sys::statvfs::statvfs(&self.path()).unwrap().files_available()
    }
}

/// A tmpfs mounted in a volume.
pub struct NestedMount<'a> {
    volume: &'a Volume,
    at: PathBuf,
}

impl Drop for NestedMount<'_> {
    fn drop(&mut self) {
        // Lazily, because a program of a failed test may still use it.
        let _ = self.volume.run("umount", &["-l", self.at.to_str().unwrap()]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            let _ = keeper.kill();
            let _ = keeper.wait();
        } else {
            let _ = run("umount", &["-l", self.inside().to_str().unwrap()]);
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
