/// The clock by which time limits go: nobody sets it, and it goes on while the machine sleeps. Tests have one of their own.
package protocol SteadyClock: Clock where Duration == Swift.Duration, Instant == ContinuousClock.Instant {}

extension ContinuousClock: SteadyClock {}
