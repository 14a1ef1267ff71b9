public import Glibc
import SystemPackage

/// Gives a script that was just written its mode, and waits until nobody holds it open for writing.
///
/// A process that another test forks just then inherits the descriptor that the script was written by, and until it takes on its own program the
/// script cannot be run (ETXTBSY).
public func makeExecutable(_ file: String, mode: mode_t = 0o755) throws {
    guard chmod(file, mode) == 0 else { throw Errno(rawValue: errno) }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    // One that may not be read cannot be looked at so.
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // A read lease is given only where nobody writes (fcntl(2), F_SETLEASE).
    let setLease: Int32 = 1_024
    for _ in 0..<10_000 where fcntl(descriptor, setLease, F_RDLCK) != 0 {
        guard errno == EAGAIN else { return }
        usleep(500)
    }
    _ = fcntl(descriptor, setLease, F_UNLCK)
}
