import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Daemon

@Suite struct LogWriterTests {
    /// A log whose reader can stop.
    private final class Log: Sendable {
        private let lines = Mutex<[LogWriter.Line]>([])
        let isStopped = Mutex(false)
        var all: [LogWriter.Line] { lines.withLock { $0 } }

        func writer(bound: Int) -> LogWriter {
            LogWriter(bound: bound) { _ in
                !self.isStopped.withLock { $0 }
            } put: { line in
                while self.isStopped.withLock({ $0 }) { usleep(1_000) }
                self.lines.withLock { $0.append(line) }
            }
        }
    }

    @Test(
        "a line is written at once; while the log is not read, lines are queued in order, and the number of lost lines is logged"
    )
    func stopped() async throws {
        let log = Log()
        let writer = log.writer(bound: 10)
        writer.write("first", priority: 6)
        #expect(log.all.map { $0.text } == ["first"])
        log.isStopped.withLock { $0 = true }
        writer.write("one", priority: 6)
        // The thread has taken the first line, and holds it.
        try await eventually("the thread waits") { writer.waitingCount == 0 }
        for text in ["two", "three", "too long", "4"] { writer.write(text, priority: 6) }
        #expect(log.all.count == 1)
        log.isStopped.withLock { $0 = false }
        writer.flush()
        // The flush gives up after two seconds; a machine may be slower.
        try await eventually("all is written") { log.all.count == 6 }
        #expect(log.all.map { $0.text }.prefix(5) == ["first", "one", "two", "three", "4"])
        #expect(log.all.last?.text.contains("1 lines of the log were lost") ?? false)
        #expect(log.all.last?.priority == 4)
        writer.write("last")
        try await eventually("the last line is written") { log.all.last?.text == "last" }
    }
}
