//! Finds the process that listens at an address of this machine, in the kernel's tables.

use std::{io, net::SocketAddr};

/// Returns whether the process that a connection to `address` reaches is `ancestor` or a descendant
/// of it. Returns `None` if nothing listens there.
///
/// # Errors
///
/// Returns an error if the kernel does not provide this information.
#[cfg(target_os = "linux")]
pub(crate) fn is_within(address: SocketAddr, ancestor: u32) -> io::Result<Option<bool>> {
    let listening = linux::listening(address)?;
    if listening.is_empty() {
        return Ok(None);
    }
    let held = linux::sockets_within(ancestor)?;
    Ok(Some(listening.iter().all(|inode| held.contains(inode))))
}

/// Always returns true: on other systems this cannot be checked without unsafe code. A server then
/// proves its identity by its key alone.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_within(_address: SocketAddr, _ancestor: u32) -> io::Result<Option<bool>> {
    Ok(Some(true))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{HashMap, HashSet},
        fs, io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    };

    /// State of a listening socket in the kernel's tables.
    const LISTEN: &str = "0A";

    /// Returns the inodes of the sockets that a connection to `address` can reach: those bound to
    /// exactly that address, or else those bound to every address.
    pub(super) fn listening(address: SocketAddr) -> io::Result<Vec<u64>> {
        let mut exact = Vec::new();
        let mut every = Vec::new();
        let wanted = canonical(address.ip());
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = match fs::read_to_string(table) {
                // The kernel has no IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound && table.ends_with('6') => {
                    continue;
                }
                other => other?,
            };
            for (local, inode) in text.lines().skip(1).filter_map(row) {
                if local.port() != address.port() {
                } else if canonical(local.ip()) == wanted {
                    exact.push(inode);
                } else if local.ip().is_unspecified() && (wanted.is_ipv4() || local.is_ipv6()) {
                    every.push(inode);
                }
            }
        }
        Ok(if exact.is_empty() { every } else { exact })
    }

    /// Returns the local address and the inode of a row, if its socket is listening.
    fn row(line: &str) -> Option<(SocketAddr, u64)> {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next()?;
        if words.nth(1)? != LISTEN {
            return None;
        }
        let inode = words.nth(5)?.parse().ok()?;
        let (ip, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        // Words of four bytes, each in the byte order of this machine.
        let bytes: Vec<u8> = (0..ip.len() / 8)
            .filter_map(|at| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok())
            .flat_map(u32::to_ne_bytes)
            .collect();
        let ip = match bytes.len() {
            4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
            16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
            _ => return None,
        };
        Some((SocketAddr::new(ip, port), inode))
    }

    fn canonical(ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
            IpAddr::V4(_) => ip,
        }
    }

    /// Returns the inodes of all sockets that `ancestor` and its descendants hold.
    pub(super) fn sockets_within(ancestor: u32) -> io::Result<HashSet<u64>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process that has just ended holds no sockets.
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // The process name in parentheses may itself contain parentheses and blanks.
            let after = stat.rsplit(')').next().unwrap_or_default();
            let parent = after.split_whitespace().nth(1);
            if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut inodes = HashSet::new();
        let mut todo = vec![ancestor];
        let mut refused = None;
        while let Some(pid) = todo.pop() {
            todo.extend(children.remove(&pid).unwrap_or_default());
            let descriptors = match fs::read_dir(format!("/proc/{pid}/fd")) {
                Ok(descriptors) => descriptors,
                Err(error) => {
                    if error.kind() == io::ErrorKind::PermissionDenied {
                        refused = Some(error);
                    }
                    continue;
                }
            };
            for descriptor in descriptors.flatten() {
                let Ok(target) = fs::read_link(descriptor.path()) else {
                    continue;
                };
                let inode = target.to_str().and_then(|text| {
                    let inode = text.strip_prefix("socket:[")?.strip_suffix(']')?;
                    inode.parse::<u64>().ok()
                });
                inodes.extend(inode);
            }
        }
        match refused {
            Some(error) if inodes.is_empty() => Err(error),
            _ => Ok(inodes),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rows_of_listeners_are_parsed_and_others_are_skipped() {
            let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                      1000        0 123456 1 0000000000000000 100 0 0 10 0";
            let expected = "127.0.0.1:8080".parse().expect("an address");
            assert_eq!(row(v4), Some((expected, 123_456)));
            let v6 = "   1: 00000000000000000000000001000000:1F90 \
                      00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
                      00000000     0        0 42 1 0 100 0 0 10 0";
            assert_eq!(row(v6), Some(("[::1]:8080".parse().expect("one"), 42)));
            assert_eq!(row(&v4.replace(" 0A ", " 01 ")), None);
            assert_eq!(row("nonsense"), None);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_belongs_to_the_process_that_holds_it() {
        let me = std::process::id();
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(bind).expect("a port");
            let bound = listener.local_addr().expect("its address");
            let loopback = match bind.starts_with('[') {
                true => format!("[::1]:{}", bound.port()),
                false => format!("127.0.0.1:{}", bound.port()),
            };
            let address = loopback.parse().expect("an address");
            assert_eq!(is_within(address, me).expect("an answer"), Some(true));
            // A process id that does not exist, so it owns no socket of this process.
            assert_eq!(is_within(address, u32::MAX).expect("none"), Some(false));
            drop(listener);
            assert_eq!(is_within(address, me).expect("an answer"), None);
        }
    }
}
