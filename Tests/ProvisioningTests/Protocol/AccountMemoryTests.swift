import JobCore
import Testing

@testable import Provisioning

/// When an account is reconciled again, and what is remembered of it.
@Suite struct AccountMemoryTests {
    private static let now = Timestamp(secondsSince1970: 1_795_262_400)
    private static let cause = ProvisioningDelays.Cause(text: "no space is left", hint: "make room")

    /// - Returns: the time from now until the next reconcile; nil: there is none.
    private func end(_ memory: inout AccountMemory, _ result: ReconcileResult?) -> Duration? {
        memory.reconciled(result, now: Self.now) { .seconds($0) }.map { $0 == .distantPast ? .zero : $0 - Self.now }
    }

    private func pause(of memory: AccountMemory) -> Timestamp? {
        if case .pausing(let until) = memory.lastJob { until } else { nil }
    }

    @Test("a lost compare-and-set is repeated at once, and then after a growing delay")
    func conflict() {
        var memory = AccountMemory(lastJob: .pausing(until: Self.now))
        #expect((1...4).map { _ in end(&memory, .conflict) } == [.zero, .seconds(2), .seconds(3), .seconds(4)])
        #expect(pause(of: memory) == nil)
        #expect(memory.isTroubled)
    }

    @Test("a failure is repeated after a growing delay, and its cause is kept over a lost connection")
    func failed() {
        var memory = AccountMemory()
        #expect(end(&memory, .failed(Self.cause)) == .seconds(1))
        #expect(end(&memory, .failed(nil)) == .seconds(2))
        #expect(memory.shortage == Self.cause)
        #expect(end(&memory, .conflict) == .seconds(3))
        #expect(memory.shortage == nil)
    }

    @Test("what waits for a time or for another job counts its delays from the beginning")
    func waiting() {
        let until = Self.now + .seconds(60)
        for (result, again) in [
            (ReconcileResult.wait(until: until, isDue: true), Duration.seconds(60)),
            (.wait(until: until), .seconds(60)), (.blocked(by: [], interrupts: false), .zero),
        ] {
            var memory = AccountMemory(requeues: 5, obstacle: Self.cause)
            #expect(end(&memory, result) == again)
            #expect(memory.requeues == 0 && memory.shortage == nil)
            if case .wait(_, isDue: true) = result { #expect(memory.isTroubled) } else { #expect(!memory.isTroubled) }
        }
    }

    @Test("an account that waits for the lock of another daemon knows since when, until the lock is free")
    func locked() {
        let again = Self.now + .seconds(1)
        var memory = AccountMemory(requeues: 5, obstacle: Self.cause)
        #expect(end(&memory, .locked("the home", again: again)) == .seconds(1))
        #expect(memory.lockWait?.since == Self.now && memory.lockWait?.reason == "the home")
        #expect(memory.requeues == 0 && memory.shortage == nil && memory.isTroubled)
        let later = memory.reconciled(.locked("the home", again: again), now: again) { .seconds($0) }
        #expect(later == again && memory.lockWait?.since == Self.now)
        #expect(end(&memory, .conflict) == .zero)
        #expect(memory.lockWait == nil)
    }

    @Test("an older version of the entry is told apart, and only until the next reconcile")
    func stale() {
        var memory = AccountMemory()
        #expect(end(&memory, .stale) == .seconds(1))
        #expect(memory.isStale)
        #expect(end(&memory, .failed(nil)) == .seconds(2))
        #expect(!memory.isStale)
    }

    @Test("a pause is remembered until its end", arguments: [nil, ReconcileResult.done])
    func forgotten(_ last: ReconcileResult?) {
        var memory = AccountMemory(requeues: 3)
        #expect(end(&memory, .pause(until: Self.now + .seconds(9))) == .seconds(9))
        #expect(pause(of: memory) == Self.now + .seconds(9))
        #expect(memory.requeues == 0)
        #expect(end(&memory, last) == nil)
        #expect(pause(of: memory) == nil)
    }
}
