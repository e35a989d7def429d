//! A process that stays in the background lets go of what it was started with: whoever reads the
//! other end of a pipe waits until the last one has closed it.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Closes all descriptors but those to `keep`. Nothing of this process may use the others any more.
pub(crate) fn let_go(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    const STANDARD: RawFd = 3;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    let open = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect::<Vec<RawFd>>();
    let is_kept = |number: &RawFd| {
        *number < STANDARD
            || keep
                .iter()
                .any(|descriptor| descriptor.as_raw_fd() == *number)
    };
    for number in open.into_iter().filter(|number| !is_kept(number)) {
        // SAFETY: nothing uses it any more; one that is closed already is an error and no more.
        unsafe { libc::close(number) };
    }
    Ok(())
}
