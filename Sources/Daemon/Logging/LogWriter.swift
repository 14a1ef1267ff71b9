import CLinux
import EventLoop
import Glibc
import JobCore
import Synchronization

/// Writes the lines of the log and never has its caller wait: a reader that has stopped stops no job.
///
/// Where the line can be written at once, it is. Otherwise it waits in a bounded queue for a thread of its own; what finds no room there is
/// lost, and the log says how many lines were.
package final class LogWriter: Sendable {
    /// A line without its end, and the priority of syslog(3), 0 to 7; nil where the log has none.
    package struct Line: Hashable, Sendable {
        package var priority: Int32?
        package var text: String

        package init(_ text: String, priority: Int32? = nil) { (self.text, self.priority) = (text, priority) }
    }

    private struct State {
        var waiting: [Line] = []
        var bytes = 0
        var lost = 0
        /// Whether a thread writes.
        var isBusy = false
    }

    /// The standard error stream.
    static let standardError = LogWriter {
        $0.text.utf8.count <= 4_000 && isReady(STDERR_FILENO)
    } put: { line in
        StandardError.write("\(line.priority.map { "<\($0)>" } ?? "")\(line.text)\n")
    }

    /// The system's log. Whether syslog(3) would wait cannot be known, so its lines take the thread.
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
    ///   - bound: bytes that wait at most.
    ///   - isReady: whether a line can be written without waiting.
    ///   - put: writes it, and may wait.
    package init(
        bound: Int = 4 << 20, isReady: @escaping @Sendable (Line) -> Bool, put: @escaping @Sendable (Line) -> Void
    ) {
        (self.bound, self.isReady, self.put) = (bound, isReady, put)
    }

    /// Writes a line now or, in its order, soon.
    package func write(_ line: Line) {
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
        if needsThread { BlockingWork.begin(on: .log) { self.writeAll() } }
    }

    private func writeAll() {
        while let lines = takeWaiting() { lines.forEach(put) }
    }

    /// - Returns: nil when nothing waits: the thread is not needed any more.
    private func takeWaiting() -> [Line]? {
        state.withLock { state in
            var lines = state.waiting
            if state.lost > 0 {
                let text = "\(state.lost) lines of the log were lost: what reads the log did not keep up"
                lines.append(Line(text, priority: lines.last?.priority.map { _ in LOG_WARNING }))
            }
            (state.waiting, state.bytes, state.lost) = ([], 0, 0)
            state.isBusy = !lines.isEmpty
            return lines.isEmpty ? nil : lines
        }
    }

    /// Lines that no thread has taken yet.
    var waitingCount: Int { state.withLock(\.waiting.count) }

    /// Waits until everything is written, for the end of the process. What is not written after two seconds is lost.
    package func flush() {
        for _ in 0..<200 where state.withLock(\.isBusy) { usleep(10_000) }
    }

    /// Has the process write what waits before it ends.
    package static func flushAtExit() {
        atexit {
            LogWriter.standardError.flush()
            LogWriter.system.flush()
        }
    }

    /// Whether 4,096 bytes (PIPE_BUF) can be written without waiting. For a socket that is certain up to a fourth of its buffer.
    private static func isReady(_ descriptor: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        return poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLOUT) != 0
    }
}
