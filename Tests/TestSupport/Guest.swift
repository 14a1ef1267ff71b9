import Foundation
import JobCore
import SystemPackage
public import Testing

/// A machine with a kernel of its own and file systems that have quotas: `Tests/guest/run` tells what it is.
public enum Guest {
    /// Inside: where an ext4 with quotas for users is mounted.
    public static let quotaMount = ProcessInfo.processInfo.environment["PROV_TEST_QUOTA_MOUNT"]
    /// Inside: where a btrfs with quotas is mounted.
    public static let btrfsMount = ProcessInfo.processInfo.environment["PROV_TEST_BTRFS_MOUNT"]
    /// Inside: whether the tests run within a service of systemd.
    public static let isService = ProcessInfo.processInfo.environment["PROV_TEST_UNIT"] != nil

    private static let script = FilePath(#filePath).removingLastComponent().removingLastComponent()
        .appending("guest/run")
    private static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"]

    /// Runs tests there, of this very executable, and expects that none fails and none is skipped.
    ///
    /// - Parameters:
    ///   - suites: the names of the suites that run, with their tests and no others.
    ///   - unit: the files of a unit of systemd, within which they run; the first is the unit, others its drop-ins. Empty: without systemd.
    public static func run(
        _ suites: String..., under unit: [String] = [], sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        // A test's identifier is `Module.Suite/Suite/test(argument:)/File.swift:1:1`: without its ends a name would be found within others.
        let filter = "[./](\(suites.joined(separator: "|")))/"
        let service = unit.isEmpty ? [] : ["--unit", unit.joined(separator: ":")]
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: script,
                arguments: service
                    + [try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"), filter],
                environment: environment, timeLimit: .seconds(3_600), grace: .seconds(5)))
        let words = String(decoding: result.output.head + result.output.tail, as: UTF8.self)
        #expect(
            result.termination == .exited(code: 0) && words.hasSuffix("guest: passed\n"), "\(words)",
            sourceLocation: sourceLocation)
    }

    /// What is missing to start it; nil: nothing.
    static let obstacle: String? = {
        let check = Process()
        let output = Pipe()
        check.executableURL = URL(filePath: script.string)
        check.arguments = ["--check"]
        check.environment = environment
        check.standardOutput = output
        do { try check.run() } catch { return "\(script): \(error)" }
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        check.waitUntilExit()
        return check.terminationStatus == 0 ? nil : text.trimmingCharacters(in: .whitespacesAndNewlines)
    }()
}

extension Trait where Self == ConditionTrait {
    /// Of a test that calls ``Guest/run(_:sourceLocation:)``: it is skipped where the machine cannot be started, with what is missing.
    public static var inGuest: Self { .enabled(if: Guest.obstacle == nil, "\(Guest.obstacle ?? "")") }
    /// Of a suite that ``Guest/run(_:sourceLocation:)`` runs.
    public static var onlyInGuest: Self { .enabled(if: Guest.quotaMount != nil, "runs in Tests/guest/run") }
    /// The same of a suite that runs within a unit.
    public static var onlyInService: Self { .enabled(if: Guest.isService, "runs in Tests/guest/run --unit") }
}
