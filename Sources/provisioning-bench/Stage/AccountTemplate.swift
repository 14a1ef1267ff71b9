import BackupService
import LDAP
import Sandbox
import SystemPackage

/// The LDIF of any number of accounts that differ in their number only: the account of `ldif create` with other numbers.
struct AccountTemplate: Sendable {
    /// The number of the first account; all of them have seven digits.
    static let firstUID = 1_000_000
    /// Numbers that an account may have, besides the pattern.
    static let uids = firstUID..<9_000_000
    /// Stands in the text where the number goes; no account has it.
    private static let pattern = "9876543"

    /// By the mode of the entry.
    private let pieces: [Mode: [String]]

    /// What an account wishes, or that it is done.
    enum Mode: String, CaseIterable, Sendable { case modify, delete, modified }

    /// - Parameter homes: the directory of homes; each is just below it, without a chroot.
    init(homes: FilePath) throws {
        let parameters = TestLDIFs.Parameters(
            uid: Self.pattern, base: try DN(parsing: SandboxTree.accountsDN), homeRoot: homes)
        guard let record = try TestLDIFs(parameters).files.first?.record, case .add(let attributes) = record.change
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

    /// The record of an account, and the empty line that ends it.
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
