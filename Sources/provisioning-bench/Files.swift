import BackupService
import FoundationEssentials
import Glibc
import LDAP
import Sandbox
import SystemPackage

/// The directory of a run with all of its files. Only its owner can write to the parent, as home roots require.
struct BenchDirectory: Sendable {
    let path: FilePath

    init() throws {
        let temporary = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        let parent: FilePath = geteuid() == 0 ? "/var/lib" : FilePath(temporary)
        var name = Array(parent.appending("prov-bench.XXXXXX").string.utf8CString)
        guard mkdtemp(&name) != nil else {
            throw BenchFailure("no directory can be created in \(parent): \(Errno(rawValue: errno)); set TMPDIR")
        }
        path = FilePath(String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        chmod(path.string, 0o755)
    }

    func remove() throws { try FileManager.default.removeItem(atPath: path.string) }
}

/// Operations on files, with errors that name the file.
enum Files {
    static func make(_ directory: FilePath, mode: mode_t = 0o755) throws {
        guard mkdir(directory.string, mode) == 0 else {
            throw BenchFailure("\(directory) cannot be created: \(Errno(rawValue: errno))")
        }
    }

    static func own(_ directory: FilePath, _ number: Int) throws {
        guard geteuid() != 0 || chown(directory.string, uid_t(number), gid_t(number)) == 0 else {
            throw BenchFailure("\(directory) cannot be given to an account: \(Errno(rawValue: errno))")
        }
    }

    static func write(_ text: String, to path: FilePath, mode: mode_t = 0o600) throws {
        do {
            let file = try FileDescriptor.open(
                path, .writeOnly, options: [.create, .truncate, .closeOnExec],
                permissions: FilePermissions(rawValue: mode))
            try file.closeAfter { _ = try file.writeAll(Array(text.utf8)) }
        } catch {
            throw BenchFailure("\(path) cannot be written: \(error)")
        }
    }

    static func read(_ path: FilePath) throws -> String {
        do {
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 16_384)
                while true {
                    let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
                    if count == 0 { return String(decoding: bytes, as: UTF8.self) }
                    bytes += buffer[..<count]
                }
            }
        } catch {
            throw BenchFailure("\(path) cannot be read: \(error)")
        }
    }

    static func removeIfThere(_ path: FilePath) throws {
        if FileManager.default.fileExists(atPath: path.string) {
            try FileManager.default.removeItem(atPath: path.string)
        }
    }
}

/// The LDIF of any number of accounts: the account of `ldif create` with other uids.
struct AccountTemplate: Sendable {
    /// The uid of the first account; all uids have seven digits.
    static let firstUID = 1_000_000
    /// Valid uids, except the pattern.
    static let uids = firstUID..<9_000_000
    /// The placeholder for the uid; no account has it.
    private static let pattern = "9876543"

    /// By the mode of the entry.
    private let pieces: [Mode: [String]]

    /// The request of an account, or its result.
    enum Mode: String, CaseIterable, Sendable { case modify, delete, modified }

    /// - Parameter homes: the parent of the homes, which have no chroot.
    init(homes: FilePath) throws {
        let parameters = TestLDIFs(
            uid: Self.pattern, base: try DN(parsing: SandboxTree.accountsDN), homeRoot: homes)
        guard let record = try parameters.files().first?.record, case .add(let attributes) = record.change
        else { throw BenchFailure("the test LDIFs do not begin with an account") }
        var entry = Entry(dn: record.dn, attributes: attributes)
        entry["homeDirectory"] = [AttributeValue(homes.appending(Self.pattern).string)]
        var made: [Mode: [String]] = [:]
        for mode in Mode.allCases {
            entry["sstProvisioningMode"] = [AttributeValue(mode.rawValue)]
            entry["sstProvisioningState"] = [mode == .modified ? "20260101T000000Z" : "0"]
            entry["sstProvisioningReturnValue"] = mode == .modified ? ["0"] : []
            let attributes = entry.attributes.filter { !$0.values.isEmpty }
            let text = LDIFWriter.text(for: LDIFRecord(dn: entry.dn, change: .content(attributes)))
            made[mode] = Self.split(text, at: Self.pattern)
        }
        pieces = made
    }

    /// The record of an account, with the empty line at its end.
    func text(_ uid: Int, _ mode: Mode) -> String { (pieces[mode] ?? []).joined(separator: String(uid)) }

    private static func split(_ text: String, at pattern: String) -> [String] {
        let (text, pattern) = (Array(text.utf8), Array(pattern.utf8))
        var pieces: [String] = []
        var (start, place) = (0, 0)
        while place + pattern.count <= text.count {
            if text[place..<place + pattern.count].elementsEqual(pattern) {
                pieces.append(String(decoding: text[start..<place], as: UTF8.self))
                place += pattern.count
                start = place
            } else {
                place += 1
            }
        }
        return pieces + [String(decoding: text[start...], as: UTF8.self)]
    }
}
