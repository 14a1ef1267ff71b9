import Glibc
import SystemPackage

extension ScriptSession {
    /// How long a process may take to leave by itself after its script has: the last stage of a pipe reads the end of its input a moment
    /// after the script that wrote it has gone, and is no survivor.
    private static let settlingTime = Duration.milliseconds(200)
    /// How long the kernel may take to end a process after SIGKILL. One that sits in an uninterruptible wait takes longer, and is named.
    private static let killTime = Duration.seconds(5)

    /// Ends what the script left behind, after its own process has ended and before it is reaped (row D13).
    ///
    /// Survivors are those that stay when nothing was said to the session, and those that stay beyond the grace when it was told to leave.
    /// - Parameters:
    ///   - pressure: what the session has been told already.
    ///   - grace: how long a process may take to leave after SIGTERM.
    /// - Returns: the survivors, by name and number; one that could not be ended says so.
    func sweep(after pressure: ScriptSupervision.Pressure, grace: Duration) async -> [String] {
        do throws(Errno) {
            var survivors = try await membersLeft(
                after: pressure == .terminate ? max(grace, Self.settlingTime) : Self.settlingTime)
            var left = survivors
            if pressure == .none, !left.isEmpty {
                signal(SIGTERM)
                signal(SIGCONT)
                left = try await membersLeft(after: grace)
            }
            let end = ContinuousClock.now + Self.killTime
            while !left.isEmpty, ContinuousClock.now < end {
                survivors.append(contentsOf: left.filter { !survivors.contains($0) })
                signal(SIGKILL)
                // A process may have forked between the listing and the signal: list and kill until nothing is left.
                left = try await membersLeft(after: .milliseconds(100))
            }
            return survivors.map { left.contains($0) ? "\($0), which SIGKILL has not ended" : $0.description }
        } catch {
            kill(-leader, SIGKILL)
            return ["any process left behind: /proc cannot be read (\(error))"]
        }
    }

    /// Waits until the session is empty.
    /// - Returns: the members that are still there at the end of the time.
    private func membersLeft(after time: Duration) async throws(Errno) -> [Member] {
        let end = ContinuousClock.now + time
        var pause = Duration.milliseconds(1)
        while true {
            let found = try members()
            let now = ContinuousClock.now
            if found.isEmpty || now >= end { return found }
            // They are not our children, so nothing tells us when they end.
            do { try await Task.sleep(for: min(pause, end - now)) } catch { return found }
            pause = min(pause * 2, .milliseconds(50))
        }
    }
}
