import CLimit
import EventLoop
import Glibc
import JobCore
import Sandbox
import SystemPackage

/// Calls the C functions that measure the limits, each on a separate thread.
struct Limits: Sendable {
    /// The program of each job.
    static let program = "/bin/true"

    let stage: Stage

    /// - Returns: the duration in seconds.
    func ldap(_ uids: Range<Int>, _ overlap: BenchPlan.Overlap) async throws -> Double {
        try await onTarget(uids) { target in
            try Self.timed { climit_ldap(target, UInt32(overlap.connections), UInt32(overlap.window), $0) }
        }
    }

    /// What the limit in C does for each job.
    enum Kind: String, CaseIterable {
        /// Two writes and a process.
        case bare = "limit.combined"
        /// Also what no program can leave out: assertions, the search for the uid, and a persistent search.
        case honest = "limit.honest"
    }

    /// - Returns: the duration in seconds.
    func combined(_ kind: Kind, _ uids: Range<Int>, _ overlap: BenchPlan.Overlap) async throws -> Double {
        try await onTarget(uids) { target in
            try Self.timed {
                climit_combined(
                    target, Self.program, UInt32(overlap.connections), UInt32(overlap.window),
                    UInt32(overlap.spawners), kind == .honest, $0)
            }
        }
    }

    /// - Returns: the seconds of each single modify, one after the other.
    func roundTrips(_ count: Int) async throws -> [Double] {
        try await onTarget(stage.first(1)) { target in
            try Self.each(count) { climit_round_trips(target, UInt32(count), $0) }
        }
    }

    /// - Returns: the duration in seconds.
    static func spawn(_ count: Int, threads: Int) async throws -> Double {
        try await BlockingWork.run { _ in try timed { climit_spawn(program, UInt32(count), UInt32(threads), $0) } }
    }

    /// - Returns: the seconds of each start of a process, one after the other.
    static func starts(_ count: Int) async throws -> [Double] {
        try await BlockingWork.run { _ in try each(count) { climit_starts(program, UInt32(count), $0) } }
    }

    private func onTarget<Result: Sendable>(
        _ uids: Range<Int>, _ body: @escaping @Sendable (UnsafePointer<climit_target>) throws -> Result
    ) async throws -> Result {
        let words = [stage.sandbox.uri, stage.sandbox.daemonDN, stage.sandbox.daemonPassword, Stage.accountsDN]
        return try await BlockingWork.run { _ in
            try words[0].withCString { uri in
                try words[1].withCString { name in
                    try words[2].withCString { password in
                        try words[3].withCString { base in
                            var target = climit_target(
                                uri: uri, bind_dn: name, password: password, base: base,
                                first_uid: UInt32(uids.lowerBound), count: UInt32(uids.count))
                            return try withUnsafePointer(to: &target) { try body($0) }
                        }
                    }
                }
            }
        }
    }

    private static func timed(_ body: (UnsafeMutablePointer<Double>) -> Int32) throws -> Double {
        var seconds = 0.0
        guard body(&seconds) == 0 else { throw BenchFailure("limit: \(String(cString: climit_failure()))") }
        return seconds
    }

    private static func each(_ count: Int, _ body: (UnsafeMutablePointer<Double>) -> Int32) throws -> [Double] {
        var samples = [Double](repeating: 0, count: count)
        let outcome = samples.withUnsafeMutableBufferPointer { $0.baseAddress.map(body) ?? -1 }
        guard outcome == 0 else { throw BenchFailure("limit: \(String(cString: climit_failure()))") }
        return samples
    }
}

/// A program that administrators would write instead of the daemon; see the directory bench.
enum Baseline: String, CaseIterable, Sendable {
    case shell, perl

    /// Processes all waiting requests.
    func run(on stage: Stage) async throws {
        let program = try DaemonRun.checkout().appending("bench").appending("baseline-\(rawValue)")
        try await Tool.run(
            program,
            environment: [
                "LDAP_URI": stage.sandbox.uri, "BIND_DN": stage.sandbox.daemonDN,
                "PASSWORD_FILE": stage.passwordFile.string, "BASE": Stage.accountsDN, "SCRIPT": Limits.program,
            ])
    }
}

/// Runs a program to its end.
enum Tool {
    private static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"]

    /// - Parameter merging: whether the result includes standard error.
    /// - Returns: the output.
    /// - Throws: unless it ends with 0, with the end of its standard error.
    @discardableResult
    static func run(
        _ program: FilePath, _ arguments: [String] = [], environment: [String: String] = [:],
        input: ChildProcess.Input = .empty, merging: Bool = false
    ) async throws -> String {
        let outcome = try await ChildProcess.run(
            ChildProcess.Program(
                program, arguments, environment: Self.environment.merging(environment) { $1 }, in: "."),
            input: input, keeping: 1 << 20, grace: .seconds(2))
        let output = String(decoding: outcome.output, as: UTF8.self)
        let error = String(decoding: outcome.error, as: UTF8.self)
        guard outcome.termination == .exited(code: 0) else {
            throw BenchFailure("\(program) failed (\(outcome.termination)): \(error.suffix(300))")
        }
        return merging ? output + error : output
    }
}
