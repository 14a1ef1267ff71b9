import CLinux
import EventLoop
import Glibc
import JobCore
import Synchronization

/// Writes the lines of the log without blocking the caller, so that a stalled log reader does not stop jobs.
///
/// A line is written at once if that does not block. Otherwise it waits in a bounded queue for a thread. Lines that exceed the bound are lost, and
/// their number is logged.
package final class LogWriter: Sendable {
    /// A line without its end, and its priority of syslog(3), 0 to 7; nil: none.
    typealias Line = (text: String, priority: Int32?)

    private struct State {
        var waiting: [Line] = []
        var bytes = 0
        var lost = 0
        /// Whether a thread is writing.
        var isBusy = false
    }

    /// The standard error stream.
    static let standardError = LogWriter {
        $0.text.utf8.count <= 4_000 && isReady(STDERR_FILENO)
    } put: { line in
        StandardError.write("\(line.priority.map { "<\($0)>" } ?? "")\(line.text)\n")
    }

    /// The system's log. It is unknown whether syslog(3) would block, so its lines are always written by the thread.
    static let system = LogWriter { _ in
        false
    } put: {
        clinux_syslog($0.priority ?? LOG_NOTICE, $0.text)
    }

    private let state = Mutex(State())
    private let bound: Int
    private let isReady: @Sendable (Line) -> Bool
    private let put: @Sendable (Line) -> Void

    /// - Parameters:
    ///   - bound: the maximum size of the queue in bytes.
    ///   - isReady: whether a line can be written without blocking.
    ///   - put: writes a line, and may block.
    init(
        bound: Int = 4 << 20, isReady: @escaping @Sendable (Line) -> Bool, put: @escaping @Sendable (Line) -> Void
    ) {
        (self.bound, self.isReady, self.put) = (bound, isReady, put)
    }

    /// Writes a line or queues it; lines keep their order.
    func write(_ text: String, priority: Int32? = nil) {
        let line = (text: text, priority: priority)
        let needsThread = state.withLock { state in
            if !state.isBusy, isReady(line) {
                put(line)
                return false
            }
            guard state.bytes + line.text.utf8.count <= bound else {
                state.lost += 1
                return false
            }
            state.bytes += line.text.utf8.count
            state.waiting.append(line)
            defer { state.isBusy = true }
            return !state.isBusy
        }
        if needsThread { WorkerPool.log.begin { self.writeAll() } }
    }

    private func writeAll() {
        while let lines = takeWaiting() { lines.forEach(put) }
    }

    /// - Returns: nil if the queue is empty: the thread ends.
    private func takeWaiting() -> [Line]? {
        state.withLock { state in
            var lines = state.waiting
            if state.lost > 0 {
                let text = "\(state.lost) lines of the log were lost: what reads the log did not keep up"
                lines.append((text, lines.last?.priority.map { _ in LOG_WARNING }))
            }
            (state.waiting, state.bytes, state.lost) = ([], 0, 0)
            state.isBusy = !lines.isEmpty
            return lines.isEmpty ? nil : lines
        }
    }

    /// Lines in the queue.
    var waitingCount: Int { state.withLock(\.waiting.count) }

    /// Waits until everything is written, at most two seconds. For the end of the process.
    func flush() {
        for _ in 0..<200 where state.withLock(\.isBusy) { usleep(10_000) }
    }

    /// Waits until all queues are written, at most two seconds for each. To be called before the process ends.
    package static func flushAll() {
        standardError.flush()
        system.flush()
    }

    /// Whether 4,096 bytes (PIPE_BUF) can be written without blocking. A socket is only writable if a quarter of its buffer is free.
    private static func isReady(_ descriptor: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLOUT) != 0
    }
}

/// The standard error stream, one whole line at a time.
package enum StandardError {
    private static let lock = Mutex(())

    /// - Parameter line: with its line end. It is lost if it cannot be written.
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
