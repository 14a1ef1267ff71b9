import ArgumentParser
import Daemon
import EventLoop
import FoundationEssentials
import Glibc
import LDAP
import SystemPackage

@main
struct ProvisioningBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "provisioning-bench",
        abstract: "Measure the daemon, its alternatives, and the limit of the machine.",
        discussion: """
            It starts an LDAP server, prints a table, and removes its files. Exit status 0 if everything was measured, regardless \
            of the figures.
            """)

    @Flag(help: "Shorter measurements, at most five minutes.")
    var quick = false

    @Option(help: "Also write the figures to this file.", completion: .file())
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
        // A tool that ends early must not end this program.
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
        case .interrupted: throw BenchFailure("interrupted; all files were removed")
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

    /// Stops the servers of a run, and removes its directory.
    private static func cleanUp(_ directory: BenchDirectory) async throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: directory.path.string) {
            try await Stage.end(in: directory.path.appending(name))
        }
        try directory.remove()
    }
}

extension Benchmark.Part: ExpressibleByArgument {}

/// The machine and the versions of the programs.
enum Machine {
    static func facts() throws -> [BenchReport.Fact] {
        var name = utsname()
        uname(&name)
        func text<Tuple>(_ tuple: Tuple) -> String {
            withUnsafeBytes(of: tuple) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        let processors = try Files.read("/proc/cpuinfo").split(separator: "\n")
        let model = processors.first { $0.hasPrefix("model name") }?.split(separator: ":").last
        let memory = ProcessFacts.number("MemTotal", in: try Files.read("/proc/meminfo")) * 1024
        let load = try Files.read("/proc/loadavg").split(separator: " ").prefix(3).joined(separator: " ")
        return [
            BenchReport.Fact("processor", model.map { String($0.drop { $0 == " " }) } ?? text(name.machine)),
            BenchReport.Fact("processors", "\(sysconf(Int32(_SC_NPROCESSORS_ONLN)))"),
            BenchReport.Fact("memory_mb", "\(memory / 1_000_000)"),
            BenchReport.Fact("kernel", "\(text(name.sysname)) \(text(name.release)) \(text(name.machine))"),
            BenchReport.Fact("load_at_start", load),
        ]
    }

    static func versions() async -> [BenchReport.Fact] {
        let asked: [(String, FilePath, [String])] = [
            ("prov-backup-rsnapshot", (try? DaemonRun.program()) ?? "/", ["--version"]),
            ("slapd", "/usr/sbin/slapd", ["-VV"]), ("rsnapshot", "/usr/bin/rsnapshot", ["version"]),
            ("perl", "/usr/bin/perl", ["-e", "print $^V"]),
            ("net-ldap", "/usr/bin/perl", ["-MNet::LDAP", "-e", "print $Net::LDAP::VERSION"]),
            ("swift", "/usr/bin/env", ["swift", "--version"]),
        ]
        var facts: [BenchReport.Fact] = []
        for (name, program, arguments) in asked {
            let path = getenv("PATH").map { String(cString: $0) } ?? ""
            let environment = name == "swift" ? ["PATH": path] : [:]
            let output = try? await Tool.run(program, arguments, environment: environment, merging: true)
            let line = output?.split(separator: "\n").first { $0.contains { $0.isNumber } }
            facts.append(BenchReport.Fact(name, line.map { $0.trimming { $0.isWhitespace } } ?? "not found"))
        }
        return facts
    }
}

extension Substring {
    fileprivate func trimming(_ unwanted: (Character) -> Bool) -> String {
        String(String(drop(while: unwanted)).reversed().drop(while: unwanted).reversed())
    }
}
