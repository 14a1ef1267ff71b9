import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import EventLoop

/// The contract of the loop for descriptors, timers and calls.
@Suite @MainActor struct EventLoopTests {
    private let loop = EventLoop.shared

    /// A pipe that is closed when the test ends.
    private final class Pipe {
        let reading: Int32
        let writing: Int32

        init() throws {
            var ends: [Int32] = [-1, -1]
            try #require(pipe(&ends) == 0)
            (reading, writing) = (ends[0], ends[1])
        }

        func write(_ text: String) { #expect(Glibc.write(writing, text, text.utf8.count) == text.utf8.count) }

        func read() -> String {
            var buffer = [UInt8](repeating: 0, count: 100)
            let count = Glibc.read(reading, &buffer, buffer.count)
            return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        }

        deinit {
            close(reading)
            close(writing)
        }
    }

    private final class Log {
        var lines: [String] = []
    }

    @Test(
        "a handler is called as long as its descriptor is ready, for its current events, and not after it is forgotten"
    )
    func descriptor() async throws {
        let (pipe, log) = (try Pipe(), Log())
        try loop.watch(pipe.reading, for: .readable) { events in
            #expect(events.contains(.readable))
            log.lines.append(pipe.read())
            if log.lines.count == 2 { self.loop.change(pipe.reading, to: []) }
        }
        pipe.write("a")
        try await eventually("the first is heard") { log.lines == ["a"] }
        pipe.write("b")
        try await eventually("the second is heard") { log.lines == ["a", "b"] }
        pipe.write("c")
        await turns()
        #expect(log.lines == ["a", "b"], "nothing was asked for")
        loop.change(pipe.reading, to: .readable)
        try await eventually("the third is heard") { log.lines == ["a", "b", "c"] }
        loop.forget(pipe.reading)
        pipe.write("d")
        await turns()
        #expect(log.lines == ["a", "b", "c"])
        loop.forget(pipe.reading)
    }

    @Test(
        "events of a descriptor that is forgotten meanwhile are dropped, although its number is in use again"
    )
    func reusedNumber() async throws {
        let (first, second, log) = (try Pipe(), try Pipe(), Log())
        // Both are ready before the loop looks: whichever handler comes first takes the other's number away and gives it to a third pipe.
        first.write("x")
        second.write("x")
        let third = try Pipe()
        for (mine, other) in [(first, second), (second, first)] {
            try loop.watch(mine.reading, for: .readable) { _ in
                log.lines.append("old")
                self.loop.forget(mine.reading)
                self.loop.forget(other.reading)
                #expect(dup2(third.reading, other.reading) == other.reading)
                #expect(throws: Never.self) {
                    try self.loop.watch(other.reading, for: .readable) { _ in log.lines.append("new") }
                }
            }
        }
        try await eventually("one is heard") { !log.lines.isEmpty }
        await turns()
        #expect(log.lines == ["old"], "the third pipe is empty")
        loop.forget(first.reading)
        loop.forget(second.reading)
    }

    @Test("a regular file cannot be watched, and the error is EPERM")
    func ordinaryFile() throws {
        let file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC)
        defer { close(file) }
        #expect(throws: Errno.notPermitted) { try loop.watch(file, for: .readable) { _ in } }
    }

    @Test(
        "timers are called in the order of their times, those of one time in the order in which they were set; a cancelled one is not"
    )
    func timers() async throws {
        let log = Log()
        let start = ContinuousClock.now
        var cancelled: [EventLoop.Timer] = []
        for (delay, name) in [(30, "c"), (10, "a"), (20, "b"), (10, "a2"), (-5, "past")] {
            loop.call(at: start + .milliseconds(delay)) {
                #expect(ContinuousClock.now >= start + .milliseconds(delay))
                log.lines.append(name)
            }
            // More than the loop keeps before it looks through them.
            for _ in 0..<50 { cancelled.append(loop.call(at: start + .milliseconds(15)) { log.lines.append("no") }) }
        }
        cancelled.forEach(loop.cancel)
        try await eventually("all are called") { log.lines.count == 5 }
        #expect(log.lines == ["past", "a", "a2", "b", "c"])
        cancelled.forEach(loop.cancel)
    }

    @Test("calls from many threads all come to the loop's thread, those of each thread in their order")
    func posts() async throws {
        let log = Log()
        let box = UncheckedBox(log)
        await withTaskGroup(of: Void.self) { group in
            for thread in 0..<4 {
                group.addTask {
                    for number in 0..<500 {
                        EventLoop.shared.post {
                            #expect(EventLoop.shared.isCurrent)
                            box.value.lines.append("\(thread) \(number)")
                        }
                    }
                }
            }
        }
        try await eventually("all have come") { log.lines.count == 2_000 }
        for thread in 0..<4 {
            #expect(log.lines.filter { $0.hasPrefix("\(thread) ") } == (0..<500).map { "\(thread) \($0)" })
        }
    }

    @Test("sleep wakes on the loop, early when it is cancelled; a job that delays all others is reported")
    func sleeping() async throws {
        try await Task.sleep(for: .milliseconds(1))
        #expect(loop.isCurrent)
        let asleep = Task { try await Task.sleep(for: .seconds(86_400 * 365 * 1_000)) }
        await turns()
        asleep.cancel()
        await #expect(throws: CancellationError.self) { try await asleep.value }
        let before = loop.onSlowSlice
        defer { loop.onSlowSlice = before }
        let log = Log()
        loop.onSlowSlice = { log.lines.append($0 > EventLoop.longestSlice ? "slow" : "quick") }
        await Task { @MainActor in
            let end = ContinuousClock.now + .milliseconds(25)
            while ContinuousClock.now < end {}
        }.value
        try await eventually("it is told") { log.lines.contains("slow") }
        #expect(!log.lines.contains("quick"))
    }

    /// So many turns that everything that is ready has been called.
    private func turns() async { for _ in 0..<2 * 256 { await Task.yield() } }

    /// State that only the loop's thread uses.
    private struct UncheckedBox: @unchecked Sendable {
        let value: Log
        init(_ value: Log) { self.value = value }
    }
}
