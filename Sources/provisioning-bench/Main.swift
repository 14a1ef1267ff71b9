import ArgumentParser
import Daemon
import LDAP
import EventLoop
import FoundationEssentials
import Glibc
import SystemPackage

@main
struct ProvisioningBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "provisioning-bench",
        abstract: "Measure the daemon beside what would be used instead of it and beside the limit of the machine.",
        discussion: """
            It starts a directory server of its own, prints a table, and takes away what it made. Exit status 0 when everything \
            was measured, whatever the figures are.
            """)

    @Flag(help: "Less of each: at most five minutes.")
    var quick = false

    @Option(help: "Write the figures into this file as well.", completion: .file())
    var json: String?

    @Option(help: "The directory for the plots (SVG).", completion: .directory)
    var output: String?

    @Option(
        parsing: .upToNextOption,
        help: "Only these parts: \(Benchmark.Part.allCases.map(\.rawValue).joined(separator: ", ")).")
    var only: [Benchmark.Part] = []

    static func main() { EventLoop.run { await main(nil) } }

    func run() async throws {
        let signals = try await ProcessSignals([SIGINT, SIGTERM])
        LDAPLibrary.ignoreSurroundings()
        // A tool that ends early must not take this program with it.
        signal(SIGPIPE, SIG_IGN)
        let plan = quick ? BenchPlan.quick : .full
        let recorder = Recorder()
        let machine = try Machine.facts()
        let versions = await Machine.versions()
        let directory = try BenchDirectory()
        let benchmark = Benchmark(
            plan: plan, parts: only.isEmpty ? Set(Benchmark.Part.allCases) : Set(only), directory: directory.path,
            recorder: recorder)
        let end = await Self.run(benchmark, within: plan.limit, until: signals)
        try await Self.cleanUp(directory)
        switch end {
        case .done: break
        case .timeUp: recorder.fail("the run", BenchFailure("the time is up: \(plan.limit)"))
        case .failed(let error): recorder.fail("the run", error)
        case .interrupted: throw BenchFailure("interrupted; what was made is taken away")
        }
        let report = BenchReport(
            machine: machine, versions: versions, measurements: recorder.measurements, failures: recorder.failures)
        print(report.table, terminator: "")
        if let json { try Files.write(try report.json(), to: FilePath(json), mode: 0o644) }
        let plots = try output.map { FilePath($0) } ?? DaemonRun.checkout().appending("bench").appending("results")
        try FileManager.default.createDirectory(atPath: plots.string, withIntermediateDirectories: true)
        for (name, svg) in Plots(measurements: recorder.measurements, latencies: recorder.latencies).all {
            try Files.write(svg, to: plots.appending(name), mode: 0o644)
        }
        print("\nPlots are in \(plots)")
        if !recorder.failures.isEmpty { throw ExitCode(1) }
    }

    private enum End: Sendable {
        case done, timeUp, interrupted
        case failed(any Error)
    }

    private static func run(
        _ benchmark: Benchmark, within limit: Duration, until signals: ProcessSignals
    ) async -> End {
        await withTaskGroup { group in
            group.addTask {
                do {
                    try await benchmark.run()
                    return End.done
                } catch {
                    return .failed(error)
                }
            }
            group.addTask {
                for await _ in signals.received { return .interrupted }
                return .done
            }
            group.addTask {
                do { try await Task.sleep(for: limit) } catch { return .done }
                return .timeUp
            }
            let first = await group.next() ?? .done
            group.cancelAll()
            await group.waitForAll()
            return first
        }
    }

    /// Ends the servers that a run has left, and removes its directory.
    private static func cleanUp(_ directory: BenchDirectory) async throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.path.string) {
            try await Stage.end(in: directory.path.appending(name))
        }
        try directory.remove()
    }
}

extension Benchmark.Part: ExpressibleByArgument {}
