import Foundation
import InMemoryLogging
import JobCore
import Logging
import Provisioning
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import ScriptService

/// What the end of a script means for the entry.
@Suite struct OutcomeTests {
    @Test(
        "an exit code is read by the profile of the settings",
        arguments: [
            ("exit 2", ExitProfile.provisioning, ProvisioningExitCode.userNotPresentInBackend, FailureClass.permanent),
            ("exit 7", .provisioning, .cannotCreateRsnapshotConfiguration, .permanent),
            ("exit 75", .provisioning, .undefinedError, .retryable),
            ("exit 9", .provisioning, .undefinedError, .permanent),
            ("kill -9 $$", .provisioning, .undefinedError, .permanent), ("exit 2", .posix, .undefinedError, .permanent),
            ("exit 1", .rsnapshot, .undefinedError, .permanent), ("exit 75", .posix, .undefinedError, .retryable),
            ("exit 5", .lightsOutClient, .undefinedError, .configuration),
        ])
    func failure(body: String, profile: ExitProfile, code: ProvisioningExitCode, failureClass: FailureClass)
        async throws
    {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("echo the disk is on fire >&2; " + body) {
            $0.exitProfile = profile
        }
        let failure = try await configuration.failure(.modify)
        #expect(failure?.code == code)
        #expect(failure?.failureClass == failureClass)
        #expect(failure?.output == "the disk is on fire\n")
        let raw = body.hasPrefix("exit") ? "exit code \(body.dropFirst(5))" : "signal 9"
        #expect(failure?.reason.contains("script.sh modify jane ended as ") == true, "\(failure?.reason ?? "none")")
        #expect(failure?.reason.contains("(\(raw), profile \(profile.name))") == true, "\(failure?.reason ?? "none")")
    }

    @Test("success and warnings are done, and warnings are logged with the output")
    func warnings() async throws {
        let directory = try TestDirectory()
        let log = InMemoryLogHandler()
        let configuration = try directory.configuration("echo look here; exit 2") { $0.exitProfile = .rsnapshot }
        try await withLogger(Logger(label: "test") { _ in log }) { _ in try await configuration.carryOut() }
        #expect(log.entries.map(\.level) == [.warning])
        #expect(log.entries.first?.message.description.contains("warnings (exit code 2, profile rsnapshot)") == true)
        #expect(log.entries.first?.metadata["output"] == "look here\n")
    }

    @Test("a script that exceeds its time limit is ended with code 1 and the setting in the hint")
    func timeLimit() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration(
            "trap 'exit 2' TERM; echo waiting; sleep 600 & until [ $(cat /proc/$!/comm) = sleep ]; do sleep 0.02; done; touch $directory/waits; wait"
        )
        let clock = ManualSteadyClock()
        async let failing = configuration.failure(scripts: ScriptRunner(clock: clock))
        try await eventually("the script waits") { directory.exists("waits") }
        clock.advance(by: configuration.timeLimit)
        let failure = try await failing
        #expect(failure?.code == .undefinedError)
        #expect(failure?.failureClass == .permanent)
        #expect(failure?.reason.contains("was ended after its time limit") == true)
        #expect(failure?.hint.contains("TIMEOUT") == true)
        #expect(failure?.output == "waiting\n")
    }

    @Test("D13 a process that a script leaves behind is ended, and a notice names it")
    func leftovers() async throws {
        let directory = try TestDirectory()
        let notices = Mutex<[CoreNotice]>([])
        let configuration = try directory.configuration(
            // Until then it has the name of the script.
            "sleep 600 & echo $! > $directory/left; until [ $(cat /proc/$!/comm) = sleep ]; do sleep 0.02; done")
        for step in try await configuration.plan(.add, person()) {
            try await step.perform(in: .alone { notice in notices.withLock { $0.append(notice) } })
        }
        #expect(notices.withLock { $0 }.contains { $0.level == .warning && $0.text.contains("sleep") })
        let left = try directory.text("left").trimmingCharacters(in: .whitespacesAndNewlines)
        // A process that is not reaped remains as a zombie.
        let status = FileManager.default.contents(atPath: "/proc/\(left)/stat").map {
            String(decoding: $0, as: UTF8.self)
        }
        #expect(status.map { $0.contains(") Z ") } ?? true, "\(status ?? "")")
    }

    @Test("when the daemon stops, a running script is ended and the step says that it was cancelled")
    func cancelled() async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/began; sleep 600 & wait")
        let work = Task { try await configuration.carryOut() }
        try await eventually("the script has begun") { directory.exists("began") }
        work.cancel()
        await #expect(throws: CancellationError.self) { try await work.value }
    }

    @Test("L2 a script that others can write is refused before it runs, again at each run", arguments: [0o775, 0o757])
    func permissions(mode: mode_t) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration("touch $directory/ran")
        let plan = try await configuration.plan(.add, person())
        _ = try directory.script("touch $directory/ran", mode: mode)
        let failure = try await configuration.failure()
        #expect(failure?.code == .runtimeRequirementNotSatisfied)
        #expect(failure?.failureClass == .configuration)
        #expect(failure?.reason.hasPrefix("ADD is refused: ") == true)
        #expect(failure?.reason.contains("script.sh") == true)
        await #expect(throws: ProvisioningFailure.self, "after the plan") {
            for step in plan { try await step.perform(in: .alone()) }
        }
        #expect(!directory.exists("ran"))
    }

    @Test("a script that is missing or cannot be started is code 3, and the setting is named")
    func missing() async throws {
        let directory = try TestDirectory()
        var configuration = try directory.configuration("true") { $0.delete = directory.path.appending("gone.sh") }
        #expect(try await configuration.failure(.add) == nil)
        let missing = try await configuration.failure(.delete)
        #expect(missing?.code == .runtimeRequirementNotSatisfied)
        #expect(missing?.reason.contains("gone.sh") == true)
        #expect(missing?.hint.contains("DELETE") == true)

        configuration.modify = try directory.write("#!/no/such/interpreter\n", to: "odd.sh", mode: 0o755)
        let odd = try await configuration.failure(.modify)
        #expect(odd?.code == .runtimeRequirementNotSatisfied)
        #expect(odd?.failureClass == .configuration)
        #expect(odd?.reason.contains("/no/such/interpreter") == true)
        #expect(odd?.hint.contains("MODIFY") == true)
    }
}
