import LDAP
import JobCore
import TestSupport
import Testing

@testable import Provisioning

@Suite struct FailedAttemptsTests {
    private let noon = Timestamp(secondsSince1970: 1_795_262_400)
    private let retry = RetryPolicy(maximumAttempts: 2, delay: .seconds(10), maximumDelay: .seconds(3_600))

    @Test(
        "a shortage is waited for for a day, its attempts do not count, and the last attempt is at the end of the day")
    func day() throws {
        var generator = SeededGenerator(seed: 1)
        var attempts = FailedAttempts()
        var now = noon
        var waits: [Duration] = []
        while let due = attempts.add(.shortage, at: now, retry, using: &generator) {
            waits.append(due - now)
            now = due
        }
        #expect(now == noon + .seconds(24 * 3_600))
        #expect(attempts.counted == 0 && attempts.shortageBegan == noon)
        #expect(waits.count > 24 && waits.allSatisfy { $0 > .zero && $0 <= retry.maximumDelay })
        #expect(waits.first.map { $0 <= retry.delay } == true)
    }

    @Test("other retryable failures are tried MAX_ATTEMPTS times, not counting shortages between them")
    func others() {
        var generator = SeededGenerator(seed: 1)
        var attempts = FailedAttempts()
        for _ in 0..<10 { #expect(attempts.add(.shortage, at: noon, retry, using: &generator) != nil) }
        #expect(attempts.add(.retryable, at: noon, retry, using: &generator) != nil)
        #expect(attempts.counted == 1 && attempts.shortageBegan == nil)
        // A later shortage has a day of its own.
        let tomorrow = noon + .seconds(30 * 3_600)
        #expect(attempts.add(.shortage, at: tomorrow, retry, using: &generator) != nil)
        #expect(attempts.shortageBegan == tomorrow)
        #expect(attempts.add(.retryable, at: tomorrow, retry, using: &generator) == nil)
        for failureClass in [FailureClass.permanent, .configuration] {
            var attempts = FailedAttempts()
            #expect(attempts.add(failureClass, at: noon, retry, using: &generator) == nil)
        }
    }

    @Test("setting the clock neither shortens nor lengthens that day", arguments: [-90, 90])
    func clock(hours: Int64) {
        var generator = SeededGenerator(seed: 1)
        var attempts = FailedAttempts()
        let due = attempts.add(.shortage, at: noon, retry, using: &generator) ?? noon
        attempts.clockWasSet(by: .seconds(hours * 3_600))
        let end = noon + .seconds((hours + 24) * 3_600)
        #expect(attempts.add(.shortage, at: end + .seconds(-1), retry, using: &generator) == end)
        #expect(attempts.add(.shortage, at: end, retry, using: &generator) == nil)
        #expect(due > noon)
    }
}

@Suite struct ProvisioningDelaysTests {
    private typealias Cause = ProvisioningDelays.Cause

    @Test(
        "causes with the same hint are logged once at the beginning, and once when no account waits for them any more")
    func once() throws {
        let accounts = try (1...3).map {
            try #require(EntryUUID(bytes: ([UInt8](repeating: 0, count: 15) + [UInt8($0)])[...]))
        }
        let disk = Cause(text: "home 1; df /srv", hint: "df /srv")
        let files = Cause(text: "pipe; ulimit", hint: "ulimit")
        let same = Cause(text: "home 2; df /srv", hint: "df /srv")
        let now = Timestamp(secondsSince1970: 1_000)
        var shortages = ProvisioningDelays()
        /// What is logged.
        func update(_ account: Int, _ cause: Cause?, at time: Timestamp) -> [String] {
            let (began, over) = shortages.update(accounts[account], cause, at: time)
            return over.map { "over: \($0)" } + [began].compactMap(\.self)
        }
        #expect(update(0, nil, at: now) == [])
        #expect(update(0, disk, at: now) == ["home 1; df /srv"])
        #expect(update(1, same, at: now + .seconds(1)) == [])
        #expect(update(0, disk, at: now + .seconds(2)) == [])
        #expect(shortages.list() == [ProvisioningDelay(accounts: 2, since: now, reason: "home 1; df /srv")])
        #expect(update(2, files, at: now + .seconds(3)) == ["pipe; ulimit"])
        #expect(update(0, nil, at: now) == [])
        #expect(update(1, files, at: now) == ["over: home 1; df /srv"])
        #expect(shortages.list().map(\.accounts) == [2])
        #expect(update(1, nil, at: now) == [])
        #expect(update(2, nil, at: now) == ["over: pipe; ulimit"])
        #expect(shortages.list().isEmpty)
    }
}
