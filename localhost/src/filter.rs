//! The filter: which system calls the kernel reports instead of doing them. It looks at numbers
//! alone, so that it costs all others next to nothing; what was reported may still go on unchanged.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

/// `AUDIT_ARCH_*` of `linux/audit.h`, for the system calls of this build. Those of a 32-bit program
/// on a 64-bit kernel are let through.
const NATIVE: u32 = {
    const IS_64_BIT: u32 = 0x8000_0000;
    const IS_LITTLE_ENDIAN: u32 = 0x4000_0000;
    if cfg!(target_arch = "x86_64") {
        62 | IS_64_BIT | IS_LITTLE_ENDIAN
    } else if cfg!(target_arch = "aarch64") {
        183 | IS_64_BIT | IS_LITTLE_ENDIAN
    } else if cfg!(target_arch = "riscv64") {
        243 | IS_64_BIT | IS_LITTLE_ENDIAN
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        21 | IS_64_BIT | IS_LITTLE_ENDIAN
    } else {
        panic!("no architecture with a known number")
    }
};

/// Where `struct seccomp_data` has them (seccomp(2)).
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The low half of the third argument: the length of the address. The kernel reads no more of it.
const LENGTH_AT: u32 = 32;

/// No address with a port is shorter than that of IPv4.
const SHORTEST: u32 = 16;
/// Unix sockets of usual names are longer than this, and their connections are frequent. The
/// kernel takes more bytes for IPv6 than it needs, so that some room is left.
const LONGEST_USUAL: u32 = 32;
/// Nothing is longer than the address of a Unix socket but what is not one.
const LONGEST_UNIX: u32 = 110;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REPORT: u32 = libc::SECCOMP_RET_USER_NOTIF;

/// Instructions of classic BPF (`linux/filter.h`).
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const MORE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The program. Jumps count the instructions that they skip.
const PROGRAM: [libc::sock_filter; 11] = {
    const fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
        libc::sock_filter { code, jt, jf, k }
    }
    [
        step(LOAD, ARCHITECTURE_AT, 0, 0),
        step(EQUAL, NATIVE, 0, 7),
        step(LOAD, NUMBER_AT, 0, 0),
        step(EQUAL, libc::SYS_bind as u32, 1, 0),
        step(EQUAL, libc::SYS_connect as u32, 0, 4),
        step(LOAD, LENGTH_AT, 0, 0),
        step(MORE, LONGEST_UNIX, 3, 0),
        step(MORE, LONGEST_USUAL, 1, 0),
        step(AT_LEAST, SHORTEST, 1, 0),
        step(RETURN, ALLOW, 0, 0),
        step(RETURN, REPORT, 0, 0),
    ]
};

/// What was installed.
pub(crate) struct Installed {
    /// Where the calls are reported.
    pub(crate) listener: OwnedFd,
    /// A call that was received waits for its answer whatever signals come, but for a deadly one.
    /// Without it (before Linux 5.19) a signal interrupts the call, and it is made again.
    pub(crate) is_steady: bool,
}

/// Puts this thread, and all that it will start, under the filter, for good.
///
/// It allocates nothing, so that it may be called between fork(2) and execve(2).
///
/// # Errors
/// `EBUSY` under another such filter, `EINVAL` or `ENOSYS` where the kernel has none, `EPERM` where
/// another filter forbids it.
pub(crate) fn install() -> Result<Installed, Errno> {
    rustix::thread::set_no_new_privs(true)?;
    let steady = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match install_with(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | steady) {
        Err(Errno::INVAL) => Ok(Installed {
            listener: install_with(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?,
            is_steady: false,
        }),
        installed => Ok(Installed {
            listener: installed?,
            is_steady: true,
        }),
    }
}

fn install_with(flags: libc::c_ulong) -> Result<OwnedFd, Errno> {
    let mut program = PROGRAM;
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, which outlives the call, and writes to no memory of
    // ours.
    let made = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match i32::try_from(made) {
        Ok(descriptor) if descriptor >= 0 => {
            // SAFETY: the kernel has just made this descriptor, for us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
        }
        _ => Err(last_error()),
    }
}

/// What the last system call of this thread failed with.
pub(crate) fn last_error() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel would do: the instructions of classic BPF that the program has.
    fn interpret(program: &[libc::sock_filter], data: &[u8; 64]) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    let word = data[step.k as usize..].first_chunk().unwrap();
                    accumulator = u32::from_ne_bytes(*word);
                }
                EQUAL => at += jump(accumulator == step.k),
                AT_LEAST => at += jump(accumulator >= step.k),
                MORE => at += jump(accumulator > step.k),
                RETURN => return step.k,
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    /// `struct seccomp_data`: number, architecture, instruction pointer, six arguments.
    fn data(number: i32, architecture: u32, arguments: [u64; 6]) -> [u8; 64] {
        let mut data = [0; 64];
        data[0..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&architecture.to_ne_bytes());
        data[8..16].fill(0xa5);
        for (argument, field) in arguments.iter().zip(data[16..].chunks_exact_mut(8)) {
            field.copy_from_slice(&argument.to_ne_bytes());
        }
        data
    }

    fn model(number: i32, architecture: u32, arguments: [u64; 6]) -> u32 {
        let is_ours = i64::from(number) == libc::SYS_bind || i64::from(number) == libc::SYS_connect;
        let length = arguments[2] as u32;
        if architecture == NATIVE && is_ours && ((16..=32).contains(&length) || length > 110) {
            REPORT
        } else {
            ALLOW
        }
    }

    fn numbers() -> impl Strategy<Value = i32> {
        prop_oneof![
            Just(libc::SYS_bind as i32),
            Just(libc::SYS_connect as i32),
            // The x32 interface of x86-64 has the same architecture and a bit more in its numbers.
            Just(libc::SYS_connect as i32 | 0x4000_0000),
            0..500,
            any::<i32>(),
        ]
    }

    fn architectures() -> impl Strategy<Value = u32> {
        // i386, ARM, and any.
        prop_oneof![4 => Just(NATIVE), 1 => Just(0x4000_0003), 1 => Just(0x4000_0028), 1 => any::<u32>()]
    }

    fn lengths() -> impl Strategy<Value = u64> {
        let high = prop_oneof![
            Just(0u64),
            Just(0xffff_ffff),
            any::<u32>().prop_map(u64::from)
        ];
        let low = prop_oneof![0..130u64, any::<u32>().prop_map(u64::from)];
        (high, low).prop_map(|(high, low)| high << 32 | low)
    }

    #[test]
    fn every_length_of_every_kind_of_address_is_told_apart() {
        for length in 0..200 {
            for number in [
                libc::SYS_bind,
                libc::SYS_connect,
                libc::SYS_accept,
                libc::SYS_sendto,
            ] {
                let call = (number as i32, NATIVE, [3, 0x7fff_0000, length, 0, 0, 0]);
                let done = interpret(&PROGRAM, &data(call.0, call.1, call.2));
                assert_eq!(done, model(call.0, call.1, call.2), "{call:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_program_does_what_it_should(
            number in numbers(), architecture in architectures(), length in lengths(), more: [u64; 5],
        ) {
            let arguments = [more[0], more[1], length, more[2], more[3], more[4]];
            prop_assert_eq!(
                interpret(&PROGRAM, &data(number, architecture, arguments)),
                model(number, architecture, arguments)
            );
        }
    }
}
