import LDAP
import JobCore
import TestSupport
import Testing

@testable import Provisioning

@Suite struct DetectionStateTests {
    private var generator = SeededGenerator(seed: 1)
    private let retry = RetryPolicy(maximumAttempts: .max, delay: .seconds(1), maximumDelay: .seconds(30))

    private func state(_ detection: Detection) -> DetectionState {
        DetectionState(
            Watcher.Timing(detection: detection, pollInterval: .seconds(10), relistInterval: .seconds(30)),
            retry: retry)
    }

    private func error(_ code: ResultCode) -> LDAPError {
        LDAPError(code, operation: "search", server: "test", isConnectionLost: code == .serverDown)
    }

    @Test("auto and persist begin with the persistent search, poll never uses it")
    func start() {
        #expect(!state(.auto).isPolling)
        #expect(!state(.persist).isPolling)
        #expect(state(.poll).isPolling)
    }

    @Test(
        "a server without Content Sync is polled in auto, and the persistent search tried again after a relist interval"
    )
    mutating func fallback() {
        var state = state(.auto)
        for _ in 0..<2 {
            #expect(state.failed(error(.unavailableCriticalExtension), using: &generator) == .zero)
            for _ in 0..<3 {
                #expect(state.isPolling)
                #expect(state.polled() == .seconds(10))
            }
            #expect(!state.isPolling)
        }
        #expect(state.failed(error(.unavailableCriticalExtension), using: &generator) == .zero)
        #expect(state.failed(error(.unavailableCriticalExtension), using: &generator) > .zero && state.isPolling)
        var polling = self.state(.poll)
        for _ in 0..<4 { #expect(polling.polled() == .seconds(10) && polling.isPolling) }
    }

    @Test("DETECTION = persist waits and tries again instead")
    mutating func demanded() {
        var state = state(.persist)
        #expect(state.failed(error(.unavailableCriticalExtension), using: &generator) > .zero)
        #expect(!state.isPolling)
    }

    @Test(
        "after each end of the search there is a delay, which grows, and is short again after a success",
        arguments: [ResultCode.syncRefreshRequired, .serverDown, .busy, .unavailable, .other, .unwillingToPerform])
    mutating func waits(code: ResultCode) {
        var state = state(.auto)
        var last = Duration.zero
        for _ in 1...12 {
            last = state.failed(error(code), using: &generator)
            #expect(last >= .milliseconds(500) && last <= .seconds(30))
            #expect(!state.isPolling)
        }
        #expect(last >= .seconds(15))
        state.refreshed()
        let next = state.failed(error(code), using: &generator)
        #expect(next > .zero && next <= .seconds(1))
    }
}
