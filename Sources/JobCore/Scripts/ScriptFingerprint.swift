import CLinux
import Glibc
import Synchronization
public import SystemPackage

/// What a script's file was when it was run: for the history.
public enum ScriptFingerprint {
    /// What tells that a file is still the same one with the same contents.
    private struct Key: Hashable {
        var device: UInt64
        var inode: UInt64
        var size: Int64
        var modified: Duration
        var changed: Duration
    }

    /// As many scripts as a machine can be expected to run; beyond it the oldest is forgotten, and costs another reading.
    private static let largestCache = 512
    private static let cache = Mutex((digests: [Key: String](), order: [Key]()))

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
            size: Int64(status.st_size), modified: time(status.st_mtim))
        identity.sha256 = digest(of: found, key(status))
        return identity
    }

    private static func key(_ status: stat) -> Key {
        Key(
            device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
            modified: time(status.st_mtim), changed: time(status.st_ctim))
    }

    private static func time(_ time: timespec) -> Duration { .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec) }

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

    private static func digest(of found: Int32, _ key: Key) -> String? {
        if let digest = cache.withLock({ $0.digests[key] }) { return digest }
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
        if fstat(file, &status) == 0, key == self.key(status), isSettled(key) { remember(text, for: key) }
        return text
    }

    /// A file's times move with the kernel's clock tick: one that was written a moment ago may be written again without a trace in them.
    private static func isSettled(_ key: Key) -> Bool {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let latest = max(key.modified, key.changed)
        return time(now) - latest > .seconds(1)
    }

    private static func remember(_ digest: String, for key: Key) {
        cache.withLock { cache in
            guard cache.digests.updateValue(digest, forKey: key) == nil else { return }
            cache.order.append(key)
            if cache.order.count > largestCache { cache.digests[cache.order.removeFirst()] = nil }
        }
    }
}
