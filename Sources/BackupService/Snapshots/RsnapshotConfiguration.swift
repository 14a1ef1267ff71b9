import Provisioning
import SystemPackage

/// A rsnapshot configuration, read again after it was rendered and held against the strict rules (specification: snapshots.md#rsnapshot-configuration).
///
/// rsnapshot runs as root and some of its lines run commands, so nothing is trusted because of where it came from.
/// Diagnostics: `Invalid` with the line's number in the rendered file.
struct RsnapshotConfiguration: Hashable, Sendable {
    struct Directive: Hashable, Sendable {
        var line: Int
        var name: String
        /// Those behind the name; one at least.
        var fields: [String]
    }

    struct Invalid: Error, Hashable, CustomStringConvertible {
        var line: Int
        var reason: String
        var hint: String
        var description: String { "line \(line): \(reason); \(hint)" }
    }

    /// All of its lines, in their order.
    let directives: [Directive]

    /// - Parameters:
    ///   - text: the rendered file.
    ///   - allowed: the directives that the template itself has; nil: all that `RsnapshotDirective` allows.
    ///   - fixedLines: those that have been found right and are the same for every account.
    ///   - account: the directory that `snapshot_root` must lie in.
    ///   - store: what it may be instead.
    ///   - values: what the template's placeholders stand for in this file.
    init(
        parsing text: String, allowed: Set<String>? = nil, fixedLines: Set<Substring> = [], account: FilePath,
        store: FilePath? = nil,
        values: (RsnapshotTemplate.Placeholder) -> String
    ) throws(Invalid) {
        var directives: [Directive] = []
        // Bytes, as rsnapshot reads them; it is done for every account, and characters cost ten times as much.
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        where !line.isEmpty && line.first != UInt8(ascii: "#") {
            let directive = try Directive(parsing: Substring(line), number: index + 1)
            if let allowed, !allowed.contains(directive.name) {
                throw Invalid(
                    line: directive.line, reason: "the template has no directive \(directive.name)",
                    hint: "take it out, or write it into the template itself")
            }
            if !fixedLines.contains(Substring(line)) {
                try directive.check(isTemplate: false, values: values)
            }
            directives.append(directive)
        }
        self.directives = directives
        try checkWhole(account: account, store: store)
    }

    private func checkWhole(account: FilePath, store: FilePath?) throws(Invalid) {
        var names: Set<String> = []
        for line in directives
        where !names.insert(line.name).inserted && RsnapshotDirective.table[line.name]?.isRepeatable == false {
            throw Invalid(line: line.line, reason: "\(line.name) is there twice", hint: "leave one")
        }
        if let missing = RsnapshotDirective.required.first(where: { !names.contains($0) }) {
            throw Invalid(
                line: directives.last?.line ?? 1, reason: "there is no line \(missing)",
                hint: RsnapshotDirective.table[missing]?.example(missing) ?? "write one")
        }
        guard let root = directives.first(where: { $0.name == "snapshot_root" }),
            let backup = directives.first(where: { $0.name == "backup" })
        else { return }
        let path = FilePath(root.fields[0])
        guard path.isAbsolute, path.isLexicallyNormal,
            path == store || path != account && path.starts(with: account)
        else {
            throw Invalid(
                line: root.line, reason: "snapshot_root \(path) does not lie inside \(account)",
                hint: "write snapshot_root<TAB>%SNAPSHOT_ROOT%/")
        }
        guard root.line < backup.line else {
            throw Invalid(
                line: backup.line, reason: "backup stands before snapshot_root", hint: "put snapshot_root above it")
        }
    }
}

extension RsnapshotConfiguration.Directive {
    typealias Invalid = RsnapshotConfiguration.Invalid

    /// - Parameter line: one that is neither empty nor a comment.
    init(parsing line: Substring, number: Int) throws(Invalid) {
        func refuse(_ reason: String, _ hint: String) -> Invalid { Invalid(line: number, reason: reason, hint: hint) }

        let isPlain = line.utf8.allSatisfy { (0x20..<0x7F).contains($0) || $0 == UInt8(ascii: "\t") }
        if isPlain ? line.utf8.first.map({ $0 <= 0x20 }) == true : line.first?.isWhitespace == true {
            throw refuse(
                "the line begins with white space and would continue the one before", "begin it with a directive")
        }
        if !isPlain, line.unicodeScalars.contains(where: { $0.isControl && $0 != "\t" }) {
            throw refuse("the line has control characters", "take them out")
        }
        let fields = line.utf8.split(separator: UInt8(ascii: "\t")).map { String(Substring($0)) }
        guard fields.count > 1 else {
            throw refuse("the line has no TAB between its fields", "separate fields by TABs, not by blanks")
        }
        let blank = UInt8(ascii: " ")
        if let field = fields.first(where: { $0.utf8.first == blank || $0.utf8.last == blank }) {
            throw refuse("the field \"\(field)\" begins or ends with a blank", "separate fields by TABs alone")
        }
        self.init(line: number, name: fields[0], fields: Array(fields.dropFirst()))
    }

    /// Holds it against the table of directives.
    func check(isTemplate: Bool, values: (RsnapshotTemplate.Placeholder) -> String) throws(Invalid) {
        do throws(RsnapshotDirective.Objection) {
            try RsnapshotDirective.check(name, fields, isTemplate: isTemplate, values: values)
        } catch {
            throw Invalid(line: line, reason: error.reason, hint: error.hint)
        }
    }
}

/// The text of an account's rsnapshot configuration, made from the template and held against the strict rules.
struct RsnapshotRendering: Hashable, Sendable {
    let text: String
    /// The text of the template that it was made from.
    let template: String

    /// - Parameter template: that of the configuration, as it is now.
    /// - Throws: code 7, class configuration, when the template is at fault.
    init(
        _ template: RsnapshotTemplate, account: BackupAccount, home: HomePath, rsync: FilePath,
        configuration: BackupConfiguration
    ) throws(ProvisioningFailure) {
        self.template = template.text
        let root = configuration.snapshots == .own ? home.snapshots : home.store
        func value(_ placeholder: RsnapshotTemplate.Placeholder) -> String {
            switch placeholder {
            case .uid: account.uid
            case .uidNumber: String(account.uidNumber)
            case .gidNumber: String(account.gidNumber)
            case .home: home.path.string
            case .snapshotRoot: root.string
            case .rsync: rsync.string
            case .lockFile: configuration.lockDirectory.appending("rsnapshot-\(account.uid).pid").string
            case .retain: ""
            }
        }
        do throws(RsnapshotConfiguration.Invalid) {
            text = template.render(retention: account.retention, values: value)
            _ = try RsnapshotConfiguration(
                parsing: text, allowed: template.directives, fixedLines: template.fixedLines,
                account: home.accountDirectory, store: home.store,
                values: value)
        } catch {
            throw ProvisioningFailure(
                .cannotCreateRsnapshotConfiguration, .configuration,
                reason:
                    "the file made from \(configuration.template) is wrong in line \(error.line): \(error.reason)",
                hint: error.hint)
        }
    }
}
