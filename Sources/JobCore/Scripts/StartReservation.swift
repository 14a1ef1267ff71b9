import Glibc
import Synchronization
import SystemPackage

/// Makes sure that the start of a process finds the descriptors it needs.
///
/// A start is refused while it can be refused without a trace: there must be enough left for it, for all others that are under way at the moment, and
/// some for the rest of the program.
final class StartReservation: Sendable {
    /// Two for output, one for input, working directory and process each, two for the cgroup or the init process, two for the starter, two for reports, and
    /// one to spare.
    private static let perStart = 12
    /// For sockets and files that others open meanwhile.
    private static let forOthers = 24

    private static let underWay = Atomic(0)

    private let isHeld = Atomic(true)

    init() throws(Errno) {
        let starts = Self.underWay.add(1, ordering: .sequentiallyConsistent).newValue
        do throws(Errno) {
            guard try Self.freeDescriptors() >= starts * Self.perStart + Self.forOthers else {
                throw Errno.tooManyOpenFiles
            }
        } catch {
            release()
            throw error
        }
    }

    /// To be called when the process has been started: what it holds is no longer to be kept free.
    func release() {
        if isHeld.exchange(false, ordering: .sequentiallyConsistent) {
            Self.underWay.subtract(1, ordering: .sequentiallyConsistent)
        }
    }

    deinit { release() }

    private static func freeDescriptors() throws(Errno) -> Int {
        var limit = rlimit()
        var status = stat()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0, stat("/proc/self/fd", &status) == 0
        else { throw Errno(rawValue: errno) }
        // Kernels from 6.2 on have counted them; for others the size is 0.
        if status.st_size > 0 { return Int(clamping: limit.rlim_cur) - Int(status.st_size) }
        guard let directory = opendir("/proc/self/fd") else { throw Errno(rawValue: errno) }
        defer { closedir(directory) }
        var open = 0
        while let entry = readdir(directory) {
            // Not "." and "..".
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { open += 1 }
        }
        return Int(clamping: limit.rlim_cur) - open
    }
}
