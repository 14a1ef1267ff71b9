import Glibc
import TestSupport
import Testing

@testable import JobCore

@Suite struct BlockingWorkTests {
    /// Work that goes on until it has to end.
    @Sendable private static func work(_ isCancelled: @Sendable () -> Bool) throws {
        while !isCancelled() { sched_yield() }
        throw CancellationError()
    }

    @Test("work is cut off when its deadline passes, and that is told from a cancellation")
    func deadline() async throws {
        let clock = ManualSteadyClock()
        let deadline = Deadline(in: .seconds(60), by: clock)
        let ended = Task { try await BlockingWork.run(on: .walks, until: deadline, Self.work) }
        clock.advance(by: .seconds(59))
        #expect(!deadline.hasPassed && deadline.left == .seconds(1))
        clock.advance(by: .seconds(1))
        await #expect(throws: Deadline.Passed.self) { try await ended.value }
        #expect(throws: Deadline.Passed.self) { try deadline.demand() }
    }

    @Test(
        "work that is cancelled ends with the cancellation, and work that asks nobody comes to its end after the deadline"
    )
    func cancelled() async throws {
        let deadline = Deadline(in: .seconds(60), by: ManualSteadyClock())
        let task = Task { try await BlockingWork.run(on: .walks, until: deadline, Self.work) }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        let late = Deadline(in: .zero, by: ManualSteadyClock())
        #expect(late.hasPassed)
        #expect(try await BlockingWork.run(until: late) { _ in 7 } == 7)
    }
}
