import EventLoop
import Glibc
import SystemPackage

extension ScriptSession {
    /// How long a process may take to leave by itself after its script has: the last stage of a pipe reads the end of its input a moment
    /// after the script that wrote it has gone, and is no survivor.
    private static let settlingTime = Duration.milliseconds(200)
    /// How long the kernel may take to end a process after SIGKILL. One that sits in an uninterruptible wait takes longer, and is named.
    private static let killTime = Duration.seconds(5)

    /// Ends what the script left behind, after its own process has ended and before it is reaped (specification: rows.md D13).
    ///
    /// Survivors are those that stay when nothing was said to them, and those that stay beyond the grace when they were told to leave.
    /// - Parameters:
    ///   - pressure: what the session has been told already.
    ///   - grace: how long a process may take to leave after SIGTERM.
    ///   - clock: by which the grace goes.
    /// - Returns: the survivors, by name and number; one that could not be ended says so.
    func sweep(
        after pressure: ScriptSupervision.Pressure, grace: Duration, by clock: any SteadyClock = ContinuousClock()
    ) async -> [String] {
        let real = ContinuousClock()
        do throws(Errno) {
            var told = clock.now
            var survivors = try await membersLeft(at: real.now + Self.settlingTime, by: real)
            if pressure == .terminate, !survivors.isEmpty {
                survivors = try await membersLeft(at: told + grace, by: clock)
            }
            var left = survivors
            if pressure == .none, !left.isEmpty {
                told = clock.now
                await signal(SIGTERM, SIGCONT)
                left = try await membersLeft(at: told + grace, by: clock)
            }
            let end = real.now + Self.killTime
            while !left.isEmpty, real.now < end {
                survivors.append(contentsOf: left.filter { new in !survivors.contains { $0.process == new.process } })
                await signal(SIGKILL)
                // A process may have forked between the listing and the signal: list and kill until nothing is left.
                left = try await membersLeft(at: real.now + .milliseconds(100), by: real)
            }
            let stubborn = Set(left.map(\.process))
            return survivors.map { member in
                stubborn.contains(member.process) ? "\(member), which SIGKILL has not ended" : "\(member)"
            }
        } catch {
            if !killAll(), let leader { kill(-leader, SIGKILL) }
            return ["any process left behind: /proc or its cgroup cannot be read (\(error))"]
        }
    }

    /// Waits until nothing is left.
    /// - Returns: the members that are still there at the end of the time.
    private func membersLeft(
        at end: ContinuousClock.Instant, by clock: any SteadyClock
    ) async throws(Errno) -> [Member] {
        while true {
            let found = try await listed()
            if found.isEmpty || clock.now >= end { return found }
            // The machine is searched again only when these have gone: they may have left others.
            await wait(for: found, until: end, by: clock)
        }
    }

    private func listed() async throws(Errno) -> [Member] {
        try await BlockingWork.run { () -> Result<[Member], Errno> in
            do throws(Errno) { return .success(try members()) } catch { return .failure(error) }
        }.get()
    }

    private func wait(for members: [Member], until end: ContinuousClock.Instant, by clock: any SteadyClock) async {
        var pause = Duration.milliseconds(1)
        while true {
            let now = clock.now
            guard now < end else { return }
            // They are not our children, so nothing tells us when they end.
            do { try await Task.sleep(for: min(pause, end - now)) } catch { return }
            if await BlockingWork.run({ remaining(of: members).isEmpty }) { return }
            pause = min(pause * 2, .milliseconds(50))
        }
    }
}
