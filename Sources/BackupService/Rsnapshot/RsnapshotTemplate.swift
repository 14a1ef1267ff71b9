import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage

/// A line of rsnapshot's configuration that is not allowed.
struct RsnapshotSyntaxError: Error, Hashable {
    /// 1 is the first; 0: unknown.
    var line = 0
    var reason: String
    var hint: String

    init(_ reason: String, _ hint: String, line: Int = 0) {
        (self.reason, self.hint, self.line) = (reason, hint, line)
    }
}

/// A template of an account's rsnapshot configuration: lines in which `%NAME%` is replaced by a value; comments are kept unchanged.
///
/// rsnapshot runs as root and some directives run commands, so every line is checked against ``RsnapshotDirective``: in the template, and where
/// accounts differ again with the values of each account (specification: snapshots.md#rsnapshot-configuration).
struct RsnapshotTemplate: Sendable {
    /// The names. `%RETAIN%` is alone on its line and becomes one `retain` line for each level in use.
    enum Placeholder: String, CaseIterable {
        case uid = "UID"
        case uidNumber = "UID_NUMBER"
        case gidNumber = "GID_NUMBER"
        /// The home without the chroot mark and without a slash at its end.
        case home = "HOME"
        /// The directory of the account's snapshots, without a slash at its end.
        case snapshotRoot = "SNAPSHOT_ROOT"
        case rsync = "RSYNC"
        case lockFile = "LOCKFILE"
        case retain = "RETAIN"
    }

    let text: String
    /// `varies`: whether the line differs between accounts.
    private var lines: [(number: Int, text: String, varies: Bool)] = []

    private static let retain = "%RETAIN%"

    init(parsing text: String) throws(RsnapshotSyntaxError) {
        self.text = text
        // At line feeds only, as rsnapshot does.
        var rows = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        if rows.last?.isEmpty == true { rows.removeLast() }
        var numbers: [String: Int] = [:]
        for (index, row) in rows.enumerated() {
            let line = String(Substring(row))
            var varies = false
            if let first = row.first, first != UInt8(ascii: "#") {
                let name = try Self.located(index + 1) { () throws(RsnapshotSyntaxError) in
                    varies = try Self.hasPlaceholders(line)
                    let fields = line == Self.retain ? ["retain"] : try Self.fields(of: line)
                    if line != Self.retain { try RsnapshotDirective.check(fields) { "%\($0.rawValue)%" } }
                    let directive = RsnapshotDirective.table[fields[0]]
                    if numbers[fields[0]] != nil, directive?.isRepeatable == false {
                        throw RsnapshotSyntaxError("\(fields[0]) occurs twice", "leave one")
                    }
                    varies = varies || directive?.rule == .file
                    return fields[0]
                }
                numbers[name] = numbers[name] ?? index + 1
            }
            lines.append((index + 1, line, varies))
        }
        for (name, directive) in RsnapshotDirective.required where numbers[name] == nil {
            throw RsnapshotSyntaxError("there is no line \(name)", directive.example(name), line: max(1, rows.count))
        }
        if let root = numbers["snapshot_root"], let backup = numbers["backup"], root > backup {
            throw RsnapshotSyntaxError("backup comes before snapshot_root", "put snapshot_root above it", line: backup)
        }
    }

    /// Makes an account's file.
    func render(retention: Retention, values: (Placeholder) -> String) throws(RsnapshotSyntaxError) -> String {
        var rendered = ""
        rendered.reserveCapacity(2 * text.utf8.count)
        for line in lines {
            guard line.varies else {
                rendered += line.text + "\n"
                continue
            }
            if line.text == Self.retain {
                for level in retention.levels { rendered += "retain\t\(level.rawValue)\t\(retention[level])\n" }
            } else {
                let filled = Self.fill(line.text, values: values)
                try Self.located(line.number) { () throws(RsnapshotSyntaxError) in
                    try RsnapshotDirective.check(Self.fields(of: filled), values: values)
                }
                rendered += filled + "\n"
            }
        }
        return rendered
    }

    /// Replaces the placeholders in a line or in a field of ``RsnapshotDirective``.
    static func fill(_ text: String, values: (Placeholder) -> String) -> String {
        guard text.utf8.contains(UInt8(ascii: "%")) else { return text }
        let parts = Array(text.utf8).split(separator: UInt8(ascii: "%"), omittingEmptySubsequences: false)
        return parts.enumerated().map { index, bytes in
            let part = String(decoding: bytes, as: UTF8.self)
            return index.isMultiple(of: 2) ? part : Placeholder(rawValue: part).map(values) ?? "%\(part)%"
        }.joined()
    }

    private static func hasPlaceholders(_ line: String) throws(RsnapshotSyntaxError) -> Bool {
        let parts = line.utf8.split(separator: UInt8(ascii: "%"), omittingEmptySubsequences: false)
            .map { String(Substring($0)) }
        let names = stride(from: 1, to: parts.count, by: 2).map { parts[$0] }
        for part in names where Placeholder(rawValue: part) == nil {
            throw RsnapshotSyntaxError(
                "%\(part)% is no placeholder",
                "write one of " + Placeholder.allCases.map { "%\($0.rawValue)%" }.joined(separator: " "))
        }
        guard !parts.count.isMultiple(of: 2) else {
            throw RsnapshotSyntaxError("a % is not part of a placeholder", "write placeholders as %NAME%")
        }
        if line != retain, names.contains(Placeholder.retain.rawValue) {
            throw RsnapshotSyntaxError(
                "%RETAIN% shares its line with something else", "let it stand alone: it becomes the retain lines")
        }
        return parts.count > 1
    }

    /// Splits a line that is neither empty nor a comment.
    /// - Returns: the directive and at least one value.
    private static func fields(of line: String) throws(RsnapshotSyntaxError) -> [String] {
        if line.first?.isWhitespace == true {
            throw RsnapshotSyntaxError(
                "the line begins with white space and would continue the one before", "begin it with a directive")
        }
        let isPlain = line.utf8.allSatisfy { 0x20..<0x7F ~= $0 || $0 == UInt8(ascii: "\t") }
        if !isPlain, line.unicodeScalars.contains(where: { $0.isControl && $0 != "\t" }) {
            throw RsnapshotSyntaxError("the line has control characters", "take them out")
        }
        let fields = Array(line.utf8).split(separator: UInt8(ascii: "\t")).map { String(decoding: $0, as: UTF8.self) }
        guard fields.count > 1 else {
            throw RsnapshotSyntaxError(
                "the line has no TAB between its fields", "separate fields by TABs, not by blanks")
        }
        let blank = UInt8(ascii: " ")
        if let field = fields.first(where: { $0.utf8.first == blank || $0.utf8.last == blank }) {
            throw RsnapshotSyntaxError(
                "the field \"\(field)\" begins or ends with a blank", "separate fields by TABs alone")
        }
        return fields
    }

    /// Adds the number of the line to an error.
    private static func located<Value>(
        _ line: Int, _ body: () throws(RsnapshotSyntaxError) -> Value
    ) throws(RsnapshotSyntaxError) -> Value {
        do throws(RsnapshotSyntaxError) {
            return try body()
        } catch {
            throw RsnapshotSyntaxError(error.reason, error.hint, line: line)
        }
    }
}

extension RsnapshotTemplate {
    /// Makes and checks an account's configuration.
    /// - Throws: code 7, class configuration, for a fault of the template.
    func render(
        for account: BackupAccount, home: HomePath, rsync: FilePath, configuration: BackupConfiguration
    ) throws(ProvisioningFailure) -> String {
        // Once, since lines and their checks need each of them several times.
        let root = (configuration.snapshots == .own ? home.snapshots : home.store).string
        let (path, rsync) = (home.path.string, rsync.string)
        let lockFile = configuration.lockDirectory.appending("rsnapshot-\(account.uid).pid").string
        do throws(RsnapshotSyntaxError) {
            return try render(retention: account.retention) {
                switch $0 {
                case .uid: account.uid
                case .uidNumber: String(account.uidNumber)
                case .gidNumber: String(account.gidNumber)
                case .home: path
                case .snapshotRoot: root
                case .rsync: rsync
                case .lockFile: lockFile
                case .retain: ""
                }
            }
        } catch {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason: "\(configuration.template):\(error.line), with the account's values: \(error.reason)",
                hint: error.hint)
        }
    }
}

/// The template file; it is read and parsed again only after it has changed.
///
/// Errors: code 7 with the file, and the line of a fault; class configuration, or shortage if the machine lacks what reading needs.
final class TemplateFile: Sendable {
    let path: FilePath
    private let restlessTime: Duration
    private let kept = Mutex<(version: FileVersion, template: RsnapshotTemplate)?>(nil)
    /// The version of rsnapshot that has accepted a file of a template, by the template's text.
    private let accepted = Mutex<[String: FileVersion]>([:])

    /// - Parameter restlessTime: for how long after a change the template is not kept, see `FileVersion`.
    init(_ path: FilePath, restlessTime: Duration = .seconds(2)) {
        self.path = path
        self.restlessTime = restlessTime
    }

    /// The current template. It blocks.
    func template() throws(ProvisioningFailure) -> RsnapshotTemplate {
        if access(path.string, F_OK) == 0 {
            try FileTrust.demand(
                path, as: .file, setting: "RSNAPSHOT_TEMPLATE", code: .cannotCreateRsnapshotConfiguration)
        }
        do {
            var status = stat()
            if stat(path.string, &status) == 0, let kept = kept.withLock({ $0 }), kept.version == FileVersion(status) {
                return kept.template
            }
            let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
            return try file.closeAfter {
                guard fstat(file.rawValue, &status) == 0 else { throw Errno(rawValue: errno) }
                let version = FileVersion(status)
                let template = try RsnapshotTemplate(parsing: String(utf8: file.bytes()))
                let isSettled = version.isSettled(for: restlessTime)
                kept.withLock { $0 = isSettled ? (version, template) : nil }
                return template
            }
        } catch let error as RsnapshotSyntaxError {
            throw Self.failure(.configuration, "\(path):\(error.line): \(error.reason)", error.hint)
        } catch let error as Errno where error.isShortage {
            throw Self.failure(
                .shortage, "the template \(path) cannot be read: \(error)",
                error.shortageHint(at: path.removingLastComponent()))
        } catch {
            throw Self.failure(
                .configuration, "the template \(path) cannot be read: \(error)",
                "put it there, or correct RSNAPSHOT_TEMPLATE")
        }
    }

    private static func failure(_ failureClass: FailureClass, _ reason: String, _ hint: String) -> ProvisioningFailure {
        ProvisioningFailure(.cannotCreateRsnapshotConfiguration, failureClass, reason: reason, hint: hint)
    }

    /// Runs `rsnapshot configtest` for a new file. Since that starts a Perl program, it is done by default only for the first file of each template
    /// with each rsnapshot.
    /// - Throws: code 7 with rsnapshot's output; `CancellationError`.
    func test(
        _ file: FilePath, of template: RsnapshotTemplate, _ configuration: BackupConfiguration,
        in attempt: RunningAttempt
    ) async throws {
        guard configuration.configurationTest != .never else { return }
        var status = stat()
        let version = stat(configuration.rsnapshot.string, &status) == 0 ? FileVersion(status) : nil
        if configuration.configurationTest == .template, let version,
            accepted.withLock({ $0[template.text] }) == version
        {
            return
        }
        let arguments = ["-c", file.string, "configtest"]
        let result = try await attempt.run(
            ScriptInvocation(
                executable: configuration.rsnapshot, arguments: arguments, environment: configuration.baseEnvironment,
                timeLimit: .seconds(60), grace: .seconds(5)),
            code: .runtimeRequirementNotSatisfied, hint: "apt install rsnapshot")
        if let complaint = result.complaint {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, result.cause == .timeLimit ? .retryable : .permanent,
                reason: "\(configuration.rsnapshot) \(arguments.joined(separator: " ")) \(complaint): "
                    + result.outputTail.split(separator: "\n").filter { !$0.allSatisfy { "-".contains($0) } }
                    .joined(separator: " "),
                hint: "correct \(configuration.template)", output: result.outputTail)
        }
        accepted.withLock { $0[template.text] = version }
    }
}
