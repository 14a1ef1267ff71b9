import EventLoop
import Foundation
import Glibc
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import JobCore

/// What the daemon does for handlers, and a note of all that was asked of it.
nonisolated final class RecordingHost: EventHandlerHost {
    private struct State {
        var reports: [JobID: [String]] = [:]
        var commands: [String] = []
        var cancelled: [JobID] = []
        var notices: [CoreNotice] = []
    }

    private let state = Mutex(State())
    /// The jobs that can be cancelled.
    let runningJobs: Set<JobID> = [JobID(7)]
    let volumes: Set<String> = ["one", "two"]

    /// The lines of a job's report.
    func report(_ job: UInt64 = 1) -> [String] { state.withLock { $0.reports[JobID(job)] ?? [] } }
    var commands: [String] { state.withLock { $0.commands } }
    var cancelled: [JobID] { state.withLock { $0.cancelled } }
    var notices: [CoreNotice] { state.withLock { $0.notices } }
    /// The texts of all notices, one a line.
    var log: String { notices.map(\.text).joined(separator: "\n") }

    func note(_ notice: CoreNotice) { state.withLock { $0.notices.append(notice) } }

    func run(_ command: String) async -> Result<JobID, RefusedCommand> {
        state.withLock { $0.commands.append(command) }
        return command == "run nightly" ? .success(JobID(99)) : .failure(RefusedCommand("there is no such job"))
    }

    func cancel(_ id: JobID) async -> Bool {
        state.withLock { $0.cancelled.append(id) }
        return runningJobs.contains(id)
    }

    func describe(_ job: Job, _ status: JobStatus, volume: String?) async -> EventJob {
        var described = EventHarness.job(status: status)
        described.job = job
        return described
    }

    func volumeExists(_ name: String) async -> Bool { volumes.contains(name) }

    func write(_ line: String, to job: JobID, source: ReportLine.Source) {
        state.withLock { $0.reports[job, default: []].append(line) }
    }
}

/// Handlers in a directory of their own, run by a real interpreter.
final class EventHarness: Sendable {
    static let python: FilePath = "/usr/bin/python3"

    let directory: ScriptDirectory
    let host = RecordingHost()
    var scripts: FilePath { directory.path.appending("scripts") }
    var script: FilePath { scripts.appending("DirStartUp.py") }
    private var modules: FilePath { directory.path.appending("python") }

    init() throws {
        directory = try ScriptDirectory()
        #expect(mkdir(scripts.string, 0o755) == 0)
        #expect(access(Self.python.string, X_OK) == 0, "these tests need \(Self.python)")
    }

    /// Puts the script into its place, as it is.
    func write(_ text: String, mode: mode_t = 0o644) throws {
        try Data(text.utf8).write(to: URL(filePath: script.string))
        #expect(chmod(script.string, mode) == 0)
    }

    /// A script whose events object has these methods, indented by four blanks, and a class `Job` for job events,
    /// also indented.
    func install(_ events: String, job: String = "    pass") throws {
        try write(
            "import bacula, os, sys, time, subprocess\nclass Job:\n\(job)\nclass Events:\n\(events)\nbacula.set_events(Events())\n"
        )
    }

    /// By the machine's clock it takes longer than any test; by another, until the test moves that.
    static let timeLimit = Duration.seconds(300)

    func configuration() -> EventConfiguration {
        var configuration = EventConfiguration()
        configuration.directory = scripts
        configuration.timeLimit = Self.timeLimit
        configuration.grace = .seconds(60)
        configuration.interpreter = Self.python
        configuration.moduleDirectory = modules
        configuration.daemon.name = "prov-test"
        configuration.daemon.configFile = "/etc/test.conf"
        configuration.daemon.workingDirectory = "/var/lib/test"
        configuration.daemon.version = "1.2 2026-01-02"
        return configuration
    }

    /// Starts the handlers, and stops them after the body; then no process of theirs may be left.
    /// - Parameters:
    ///   - clock: by which limits and graces go.
    ///   - meanwhile: goes on while they are started, and is over before they are stopped.
    func run(
        clock: any SteadyClock = ContinuousClock(), interpreter: FilePath = EventHarness.python,
        whileStarting meanwhile: () async throws -> Void = {}, _ body: (EventHandlers) async throws -> Void
    ) async throws {
        var configuration = configuration()
        configuration.interpreter = interpreter
        let host = host
        let handlers = await EventHandlers(configuration, host: host, clock: clock, notice: { host.note($0) })
        async let started: Void = handlers.start()
        do {
            try await meanwhile()
            await started
            try await body(handlers)
        } catch {
            await handlers.stop()
            throw error
        }
        await handlers.stop()
        #expect(try processes() == [])
    }

    /// The processes whose command line contains this harness's directory.
    func processes() throws -> [pid_t] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { id in
            // It may have ended since the listing.
            guard id != getpid(), isAlive(id), let line = FileManager.default.contents(atPath: "/proc/\(id)/cmdline")
            else { return false }
            return String(decoding: line, as: UTF8.self).contains(directory.path.string)
        }
    }

    static func job(
        _ id: UInt64 = 1, status: JobStatus = .created, priority: Int = 10, level: String = "daily",
        volumeName: String? = nil
    ) -> EventJob {
        EventJob(
            Job(
                id: JobID(id), type: .backup, name: "daily", level: level, subject: JobSubject("job \(id)"),
                client: "4000\(id)", priority: priority, created: Timestamp(secondsSince1970: 1_700_000_000)),
            status: status, levels: ["hourly", "daily", "weekly"], pool: "main", volumes: 2, storage: "backup1",
            catalog: "directory", mediaType: "ext4",
            catalogResource: CatalogResource(
                base: "dc=example", address: "ldap.example", bindDN: "cn=admin", socket: "", port: 389,
                vendor: "OpenLDAP"),
            volumeName: volumeName)
    }
}

/// The events one by one: the daemon sends some of them together.
extension EventHandlers {
    func jobStart(_ job: EventJob) async -> EventEffect { await performForDaemon(.jobStart, job) }

    func jobInit(_ job: EventJob) async -> EventEffect { await perform(.jobInit, job) }

    func jobRun(_ job: EventJob) async -> EventEffect { await perform(.jobRun, job) }

    func newVolume(_ job: EventJob, volumes: [String]) async -> EventEffect {
        EventEffect(volumeName: await newVolume(for: job.job, of: job.pool, among: volumes))
    }

    func volumePurged(_ job: EventJob) async { _ = await perform(.volumePurged, job) }
}
