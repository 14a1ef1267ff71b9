import Dispatch
import Foundation
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import EventLoop

final class Counter: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock(\.self) }
    func add() { count.withLock { $0 += 1 } }
}

private actor ThreadBound {
    private let executor = ThreadExecutor("bound")
    private(set) var value = 0
    /// The names of all threads that it has run on.
    private(set) var threads: Set<String> = []

    nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    func count() {
        let before = value
        sched_yield()
        value = before + 1
        threads.insert(
            ((try? String(contentsOfFile: "/proc/thread-self/comm", encoding: .utf8)) ?? "").trimmingCharacters(
                in: .newlines))
    }
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

    @Test("when no thread can be started the caller does all work that comes meanwhile, one after the other")
    func withoutThreads() {
        let pool = WorkerPool(limit: 1) { _ throws(Errno) in throw .resourceTemporarilyUnavailable }
        let order = Mutex<[String]>([])
        @Sendable func note(_ text: String) { order.withLock { $0.append(text) } }
        pool.begin {
            note("first begins")
            pool.begin { note("second") }
            note("first ends")
        }
        #expect(order.withLock(\.self) == ["first begins", "first ends", "second"])
        pool.begin { note("third") }
        #expect(order.withLock(\.self).last == "third")
    }

    @Test("an actor on a thread of its own runs one job at a time, and always on that thread")
    func executor() async {
        let actor = ThreadBound()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<500 { group.addTask { await actor.count() } }
        }
        #expect(await actor.value == 500)
        #expect(await actor.threads == ["bound"])
    }

    @Test("a full pool delays no other: while walks hang, steps and starts are done")
    func kinds() async throws {
        let gate = DispatchSemaphore(value: 0)
        let (hanging, ended, started) = (Counter(), Counter(), Counter())
        let count = 20
        for _ in 0..<count {
            WorkerPool.walks.begin {
                hanging.add()
                gate.wait()
                ended.add()
            }
        }
        try await eventually("walks hang") { hanging.value > 0 }
        for number in 0..<100 { #expect(await BlockingWork.run { number } == number) }
        WorkerPool.starts.begin { started.add() }
        try await eventually("a start is done") { started.value == 1 }
        for _ in 0..<count { gate.signal() }
        try await eventually("all walks have ended") { ended.value == count }
    }
}
