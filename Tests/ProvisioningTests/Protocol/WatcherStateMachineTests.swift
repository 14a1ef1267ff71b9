import LDAP
import JobCore
import TestSupport
import Testing

@testable import Provisioning

@Suite struct WatcherStateMachineTests {
    private var generator = SeededGenerator(seed: 1)
    private let retry = RetryPolicy(maximumAttempts: .max, delay: .seconds(1), maximumDelay: .seconds(30))

    private func machine(_ detection: Detection) -> WatcherStateMachine {
        WatcherStateMachine(
            detection: detection, pollInterval: .seconds(10), relistInterval: .seconds(30), retry: retry)
    }

    private func error(_ code: ResultCode) -> LDAPError {
        LDAPError(code, operation: "search", server: "test", isConnectionLost: code == .serverDown)
    }

    @Test("auto and persist begin with the persistent search, poll never uses it")
    mutating func start() {
        for (detection, action) in [
            (Detection.auto, WatcherStateMachine.Action.persist), (.persist, .persist), (.poll, .poll),
        ] {
            var machine = machine(detection)
            #expect(machine.handle(.started, using: &generator) == action)
        }
    }

    @Test(
        "a server without Content Sync is polled in auto, and the persistent search tried again after a relist interval"
    )
    mutating func fallback() {
        var machine = machine(.auto)
        #expect(machine.handle(.persistEnded(error(.unavailableCriticalExtension)), using: &generator) == .poll)
        for _ in 0..<3 {
            #expect(machine.handle(.polled, using: &generator) == .sleep(.seconds(10)))
        }
        #expect(machine.handle(.slept, using: &generator) == .persist)
    }

    @Test("DETECTION = persist waits and tries again instead")
    mutating func demanded() {
        var machine = machine(.persist)
        guard case .sleep = machine.handle(.persistEnded(error(.unavailableCriticalExtension)), using: &generator)
        else {
            Issue.record("it did not wait")
            return
        }
        #expect(machine.handle(.slept, using: &generator) == .persist)
    }

    @Test(
        "after each end of the search there is a delay, which grows, and is short again after a success",
        arguments: [ResultCode.syncRefreshRequired, .serverDown, .busy, .unavailable, .other, .unwillingToPerform])
    mutating func waits(code: ResultCode) {
        var machine = machine(.auto)
        var last = Duration.zero
        for attempt in 1...12 {
            guard case .sleep(let wait) = machine.handle(.persistEnded(error(code)), using: &generator) else {
                Issue.record("no wait after \(attempt)")
                return
            }
            #expect(wait >= .milliseconds(500) && wait <= .seconds(30))
            last = wait
            #expect(machine.handle(.slept, using: &generator) == .persist)
        }
        #expect(last >= .seconds(15))
        #expect(machine.handle(.refreshed, using: &generator) == .proceed)
        guard case .sleep(let wait) = machine.handle(.persistEnded(error(code)), using: &generator) else {
            Issue.record("no wait after a success")
            return
        }
        #expect(wait <= .seconds(1))
    }
}
