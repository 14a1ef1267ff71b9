import Dispatch
import Glibc
import TestSupport
import Testing

@testable import EventLoop

@Suite struct BlockingWorkTests {
    /// Work that goes on until it has to end.
    @Sendable private static func work(_ isCancelled: @Sendable () -> Bool) throws {
        while !isCancelled() { sched_yield() }
        throw CancellationError()
    }

    @Test("work is cancelled when its deadline passes, which differs from a cancellation of the task")
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
        "cancelled work ends with the cancellation, and work that does not check ends by itself after the deadline"
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

    @Test("work that waits for a thread ends with its task, and is not done later")
    func queued() async throws {
        let gate = DispatchSemaphore(value: 0)
        let hanging = Counter()
        let threads = 64
        for _ in 0..<threads {
            WorkerPool.walks.begin {
                hanging.add()
                gate.wait()
            }
        }
        defer { for _ in 0..<threads { gate.signal() } }
        try await eventually("all threads are held") { hanging.value == threads }
        let (asked, withdrawn, done) = (Counter(), Counter(), Counter())
        let tasks = (0..<20).map { number in
            Task {
                // Some are cancelled before they wait.
                if number.isMultiple(of: 2) { withUnsafeCurrentTask { $0?.cancel() } }
                asked.add()
                do {
                    try await BlockingWork.run(on: .walks) { isCancelled in
                        if !isCancelled() { done.add() }
                    }
                } catch is CancellationError {
                    withdrawn.add()
                }
            }
        }
        try await eventually("all have asked") { asked.value == tasks.count }
        tasks.forEach { $0.cancel() }
        try await eventually("the wait is over") { withdrawn.value == tasks.count }
        #expect(done.value == 0)
    }
}
