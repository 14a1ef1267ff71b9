import CLinux
package import Glibc
import Synchronization
public import SystemPackage

/// What a script's file was when it was run: for the history.
public enum ScriptFingerprint {
    /// As many scripts as a machine can be expected to run; beyond it the oldest is forgotten, and costs another reading.
    private static let largestCache = 512
    private static let cache = Mutex((digests: [FileVersion: String](), order: [FileVersion]()))

    /// Looks at the file that a path leads to, links followed. Its contents are read only when it has changed since it was looked at last. It may
    /// block.
    /// - Parameter path: absolute.
    /// - Returns: nil when the file cannot be looked at, or is no regular file; without ``ScriptIdentity/sha256`` when it may not be read.
    public static func identity(of path: FilePath) -> ScriptIdentity? {
        // A file that may be executed and not read can still be looked at. O_PATH also starts nothing on a device and waits for no FIFO.
        let found = path.withPlatformString { open($0, CLINUX_O_PATH | O_CLOEXEC) }
        guard found >= 0 else { return nil }
        defer { close(found) }
        var status = stat()
        guard fstat(found, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        var identity = ScriptIdentity(
            path: path, resolvedPath: resolved(found) ?? path, device: UInt64(status.st_dev),
            inode: UInt64(status.st_ino), owner: status.st_uid, mode: status.st_mode & 0o7777,
            size: Int64(status.st_size), modified: Duration(status.st_mtim))
        identity.sha256 = digest(of: found, FileVersion(status))
        return identity
    }

    /// Where the descriptor's file stands now.
    private static func resolved(_ descriptor: Int32) -> FilePath? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX) + 1) { buffer in
            guard let start = buffer.baseAddress else { return nil }
            let length = readlink("/proc/self/fd/\(descriptor)", start, Int(PATH_MAX))
            guard length > 0 else { return nil }
            start[length] = 0
            return FilePath(platformString: start)
        }
    }

    private static func digest(of found: Int32, _ version: FileVersion) -> String? {
        if let digest = cache.withLock({ $0.digests[version] }) { return digest }
        let file = open("/proc/self/fd/\(found)", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        let digest = [UInt8](unsafeUninitializedCapacity: Int(CLINUX_SHA256_SIZE)) { buffer, count in
            guard let start = buffer.baseAddress, clinux_sha256(file, start) == 0 else { return }
            count = buffer.count
        }
        guard !digest.isEmpty else { return nil }
        let text = digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        var status = stat()
        if fstat(file, &status) == 0, version == FileVersion(status), version.isSettled() {
            remember(text, for: version)
        }
        return text
    }

    private static func remember(_ digest: String, for version: FileVersion) {
        cache.withLock { cache in
            guard cache.digests.updateValue(digest, forKey: version) == nil else { return }
            cache.order.append(version)
            if cache.order.count > largestCache { cache.digests[cache.order.removeFirst()] = nil }
        }
    }
}

/// What tells that a file is still the same one with the same contents, as far as the kernel tells.
package struct FileVersion: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let size: Int64
    private let modified: Duration
    private let changed: Duration

    /// - Parameter status: of the file, as stat(2) gives it.
    package init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        modified = Duration(status.st_mtim)
        changed = Duration(status.st_ctim)
    }

    /// Whether the file has been left alone for a while. The kernel's times come in steps: one that changed a moment ago may change again without a
    /// trace in them, so nothing of it is to be kept.
    /// - Parameter time: how long a while is; longer than the kernel's steps, and than those of coarse file systems.
    package func isSettled(for time: Duration = .seconds(2)) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Duration(now) - max(modified, changed) > time
    }
}

extension Duration {
    /// Seconds and nanoseconds of C.
    package init(_ time: timespec) { self = .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec) }
}
