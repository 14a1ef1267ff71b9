import CLinux
package import Glibc
import Synchronization
package import SystemPackage

/// The identity of a script's file when it was run, for the history.
package struct ScriptFingerprint: Hashable, Sendable {
    /// The requested path.
    package var path: FilePath
    /// The path without symbolic links.
    package var resolvedPath: FilePath
    /// The file system's number.
    package var device: UInt64
    /// The inode number.
    package var inode: UInt64
    /// The owner's uid.
    package var owner: UInt32
    /// Permission bits, set-id bits and sticky bit, without the file type.
    package var mode: UInt32
    /// In bytes.
    package var size: Int64
    /// When the contents were last changed, since 1970-01-01 00:00 UTC.
    package var modified: Duration
    /// SHA-256 of the contents as 64 lower-case hexadecimal digits; nil if they cannot be read (a program can be
    /// executable but not readable).
    package var sha256: String?
}

extension ScriptFingerprint {
    /// The checksums of scripts that have not changed; beyond this many the oldest is forgotten and read again.
    private static let largestCache = 512
    private static let cache = Mutex((digests: [FileVersion: String](), order: [FileVersion]()))

    /// Examines the file that a path leads to, following links. The contents are read only if the file has changed since the last call. It may block.
    /// - Parameter path: absolute.
    /// - Returns: nil if the file cannot be examined or is not a regular file.
    package init?(of path: FilePath) {
        // O_PATH also works for a file that can be executed but not read, and does not open devices or wait for a FIFO.
        let found = path.withPlatformString { open($0, CLINUX_O_PATH | O_CLOEXEC) }
        guard found >= 0 else { return nil }
        defer { close(found) }
        var status = stat()
        guard fstat(found, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
        self.init(
            path: path, resolvedPath: Self.resolved(found) ?? path, device: UInt64(status.st_dev),
            inode: UInt64(status.st_ino), owner: status.st_uid, mode: status.st_mode & 0o7777,
            size: Int64(status.st_size), modified: Duration(status.st_mtim),
            sha256: Self.digest(of: found, FileVersion(status)))
    }

    /// The current path of an open file.
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

/// The facts by which an unchanged file is recognized.
package struct FileVersion: Hashable, Sendable {
    private let device: UInt64
    private let inode: UInt64
    private let size: Int64
    private let modified: Duration
    private let changed: Duration

    package init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int64(status.st_size)
        modified = Duration(status.st_mtim)
        changed = Duration(status.st_ctim)
    }

    /// Whether the file has not changed for a while. File times are coarse: a file that changed a moment ago may
    /// change again with the same times, so nothing about it may be cached.
    /// - Parameter time: longer than the resolution of the kernel's and coarse file systems' times.
    package func isSettled(for time: Duration = .seconds(2)) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return Duration(now) - max(modified, changed) > time
    }
}

extension Duration {
    /// A C time.
    package init(_ time: timespec) { self = .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec) }
}
