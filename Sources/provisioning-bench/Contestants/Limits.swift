import CLimit
import Sandbox
import EventLoop
import Glibc
import JobCore
import SystemPackage

/// Calls the limit's C functions, each on a thread of its own.
struct Limits: Sendable {
    /// The process of a job.
    static let program = "/bin/true"

    let stage: Stage

    /// - Returns: the seconds that it took.
    func ldap(_ uids: Range<Int>, _ overlap: BenchPlan.Overlap) async throws -> Double {
        try await onTarget(uids) { target in
            try Self.timed { climit_ldap(target, UInt32(overlap.connections), UInt32(overlap.window), $0) }
        }
    }

    /// - Returns: the seconds that it took.
    func combined(_ uids: Range<Int>, _ overlap: BenchPlan.Overlap) async throws -> Double {
        try await onTarget(uids) { target in
            try Self.timed {
                climit_combined(
                    target, Self.program, UInt32(overlap.connections), UInt32(overlap.window),
                    UInt32(overlap.spawners), false, $0)
            }
        }
    }

    /// - Returns: the seconds of each single modify, one after the other.
    func roundTrips(_ count: Int) async throws -> [Double] {
        try await onTarget(stage.first(1)) { target in
            try Self.each(count) { climit_round_trips(target, UInt32(count), $0) }
        }
    }

    /// - Returns: the seconds that it took.
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
