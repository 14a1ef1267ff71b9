import Dispatch
import Synchronization
import TestSupport
import Testing

@testable import JobCore

private final class Counter: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock(\.self) }
    func add() { count.withLock { $0 += 1 } }
}

@Suite struct WorkerPoolTests {
    @Test("no more pieces of work than threads at once, all are done, and they begin in their order")
    func bounded() async throws {
        let pool = WorkerPool("test", limit: 3)
        let state = Mutex((now: 0, most: 0, done: [Int]()))
        let gate = DispatchSemaphore(value: 0)
        for number in 0..<50 {
            pool.begin {
                state.withLock {
                    $0.now += 1
                    $0.most = max($0.most, $0.now)
                    $0.done.append(number)
                }
                if number < 3 { gate.wait() }
                state.withLock { $0.now -= 1 }
            }
        }
        try await eventually("three have begun") { state.withLock { $0.done.count } == 3 }
        #expect(state.withLock { Set($0.done) } == [0, 1, 2])
        for _ in 0..<3 { gate.signal() }
        try await eventually("all are done") { state.withLock { $0.done.count == 50 && $0.now == 0 } }
        #expect(state.withLock(\.most) <= 3)
        #expect(state.withLock { Set($0.done) } == Set(0..<50))
    }

    @Test("a pool that is full keeps no other waiting: while walks hang, steps and starts are done")
    func kinds() async throws {
        let gate = DispatchSemaphore(value: 0)
        let (hanging, ended, started) = (Counter(), Counter(), Counter())
        let count = 20
        for _ in 0..<count {
            BlockingWork.begin(on: .walks) {
                hanging.add()
                gate.wait()
                ended.add()
            }
        }
        try await eventually("walks hang") { hanging.value > 0 }
        for number in 0..<100 { #expect(await BlockingWork.run { number } == number) }
        BlockingWork.begin(on: .starts) { started.add() }
        try await eventually("a start is done") { started.value == 1 }
        for _ in 0..<count { gate.signal() }
        try await eventually("all walks have ended") { ended.value == count }
    }
}
