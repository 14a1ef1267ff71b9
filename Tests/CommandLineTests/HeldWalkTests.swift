import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

/// Blocks processes that open certain directories until it is released: the kernel asks this program for permission (fanotify), and it does not answer.
private final class HeldOpening {
    private static let classContent: UInt32 = 0x4
    private static let nonBlocking: UInt32 = 0x2
    private static let closeOnExec: UInt32 = 0x1
    private static let addMark: UInt32 = 0x1
    private static let openOfDirectory: UInt64 = 0x1_0000 | 0x4000_0000
    private static let eventSize = 24

    private let descriptor: Int32
    /// The processes that wait, one for each opening.
    private var waiting: [pid_t] = []

    private static func function<Function>(_ name: String, as type: Function.Type) -> Function? {
        dlsym(nil, name).map { unsafeBitCast($0, to: type) }
    }

    private static func open() -> Int32 {
        typealias Call = @convention(c) (UInt32, UInt32) -> Int32
        let flags = classContent | nonBlocking | closeOnExec
        return function("fanotify_init", as: Call.self)?(flags, UInt32(O_RDONLY)) ?? -1
    }

    /// Whether this process may, and the kernel can.
    static let isPossible: Bool = {
        let descriptor = open()
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }()

    init(_ directories: [URL]) throws {
        typealias Call = @convention(c) (Int32, UInt32, UInt64, Int32, UnsafePointer<CChar>) -> Int32
        descriptor = Self.open()
        let mark = try #require(Self.function("fanotify_mark", as: Call.self))
        for directory in directories {
            guard mark(descriptor, Self.addMark, Self.openOfDirectory, AT_FDCWD, directory.path) == 0 else {
                throw Errno(rawValue: errno)
            }
        }
    }

    deinit { close(descriptor) }

    /// The processes that wait by now, one for each opening.
    func openers() -> [pid_t] {
        var event = [UInt8](repeating: 0, count: Self.eventSize)
        while read(descriptor, &event, event.count) == event.count {
            event.withUnsafeBytes { bytes in
                close(bytes.loadUnaligned(fromByteOffset: 16, as: Int32.self))
                waiting.append(bytes.loadUnaligned(fromByteOffset: 20, as: pid_t.self))
            }
        }
        return waiting
    }
}

/// Customers' trees that take as long as it pleases the test.
@Suite(
    .enabled(if: HeldOpening.isPossible, "needs root and fanotify"),
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "rsnapshot is not installed: apt install rsnapshot"))
struct HeldWalkTests {
    @Test(
        "while homes are removed and snapshots are measured for as long as they like, another account is modified and backed up"
    )
    func otherAccount() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = remove")
            let daemon = try await harness.running()
            let (removed, measured, other) = (["3724301", "3724302", "3724303"], "3724304", "3724305")
            for uid in removed + [measured, other] {
                try await harness.add(uid)
                try await harness.reached("added", uid)
                let deep = harness.home(uid).appending(path: "incoming/deep")
                try FileManager.default.createDirectory(at: deep, withIntermediateDirectories: true)
                chown(deep.path, UInt32(uid) ?? 0, UInt32(uid) ?? 0)
            }
            #expect(try await harness.command("backup", "daily", "--account", measured).status == 0)
            let places =
                removed.map { harness.home($0).appending(path: "incoming/deep") }
                + [harness.home(measured).appending(path: ".snapshots/daily.0/deep")]
            var held: HeldOpening? = try HeldOpening(places)
            defer { held = nil }
            for uid in removed { try await harness.request(uid, "delete", ["sstIsActive": "FALSE"]) }
            async let backup = harness.command("backup", "daily", "--account", measured, "--force")
            try await eventually("all walks are held") { held?.openers() == Array(repeating: daemon.id, count: 4) }

            try await harness.request(other, "modify")
            try await harness.reached("modified", other)
            #expect(try await harness.command("backup", "daily", "--account", other).status == 0)
            #expect(held?.openers().count == 4)
            for uid in removed { #expect(try await harness.text(uid, "sstProvisioningMode") == "deleting") }

            held = nil
            for uid in removed { try await harness.reached("deleted", uid) }
            #expect(try await backup.status == 0)
            await harness.stop(daemon)
        }
    }
}
