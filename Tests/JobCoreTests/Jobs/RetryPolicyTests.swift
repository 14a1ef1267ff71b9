import Testing

@testable import JobCore

@Suite struct RetryPolicyTests {
    let policy = RetryPolicy(maximumAttempts: .max, delay: .seconds(2), maximumDelay: .seconds(60))

    @Test("the backoff doubles up to the maximum")
    func doubles() {
        #expect((1...7).map(policy.backoff) == [2, 4, 8, 16, 32, 60, 60].map { .seconds($0) })
    }

    @Test("the wait is between half of the backoff and all of it, and never above the maximum")
    func jitter() throws {
        var generator = SystemRandomNumberGenerator()
        for attempt in Array(1...200) + [10_000, .max - 1] {
            let wait = try #require(policy.delay(afterAttempt: attempt, using: &generator))
            #expect(wait >= policy.backoff(afterAttempt: attempt) / 2)
            #expect(wait <= policy.backoff(afterAttempt: attempt))
            #expect(wait <= .seconds(60))
        }
    }

    @Test("the jitter covers the range from half to all, and differs between attempts")
    func spread() throws {
        var generator = SystemRandomNumberGenerator()
        let waits = try (0..<10_000).map { _ in try #require(policy.delay(afterAttempt: 1, using: &generator)) }
        // That none of so many falls into the outermost hundredth is as good as impossible.
        #expect(try #require(waits.min()) < .milliseconds(1010))
        #expect(try #require(waits.max()) > .milliseconds(1990))
        #expect(Set(waits).count > 5000)
    }

    @Test("the largest values do not overflow", arguments: [1, 2, 64, 10_000, Int.max - 1])
    func overflow(attempt: Int) throws {
        let longest = Duration.seconds(Int64.max)
        let policy = RetryPolicy(maximumAttempts: .max, delay: .nanoseconds(1), maximumDelay: longest)
        var generator = SystemRandomNumberGenerator()
        let wait = try #require(policy.delay(afterAttempt: attempt, using: &generator))
        #expect(wait > .zero && wait <= longest)
        let whole = RetryPolicy(maximumAttempts: .max, delay: longest, maximumDelay: longest)
        #expect(try #require(whole.delay(afterAttempt: attempt, using: &generator)) <= longest)
    }

    @Test("after the last attempt there is no wait")
    func last() {
        var generator = SystemRandomNumberGenerator()
        let policy = RetryPolicy(maximumAttempts: 3, delay: .seconds(1), maximumDelay: .seconds(10))
        #expect(policy.delay(afterAttempt: 2, using: &generator) != nil)
        #expect(policy.delay(afterAttempt: 3, using: &generator) == nil)
        #expect(policy.delay(afterAttempt: 4, using: &generator) == nil)
    }

    @Test("values out of range become the nearest valid ones")
    func range() {
        var generator = SystemRandomNumberGenerator()
        let policy = RetryPolicy(maximumAttempts: -1, delay: .seconds(-5), maximumDelay: .seconds(-9))
        #expect(policy.maximumAttempts == 1)
        #expect(policy.delay == .zero)
        #expect(policy.maximumDelay == .zero)
        let longest = RetryPolicy(maximumAttempts: 2, delay: .seconds(Int64.max), maximumDelay: .zero)
        #expect(longest.delay == .longestSleep && longest.maximumDelay == .longestSleep)
        #expect(policy.delay(afterAttempt: 0, using: &generator) == .zero)
        #expect(
            RetryPolicy(maximumAttempts: 2, delay: .seconds(9), maximumDelay: .seconds(1)).maximumDelay == .seconds(9))
    }
}
