import Glibc
import Synchronization

/// The standard error stream, a whole line at a time.
package enum StandardError {
    private static let lock = Mutex(())

    /// Writes a line, which brings its own line end. What cannot be written is lost.
    package static func write(_ line: String) {
        let bytes = Array(line.utf8)
        lock.withLock { _ in
            var start = 0
            while start < bytes.count {
                let count = bytes[start...].withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                start += count
            }
        }
    }
}
