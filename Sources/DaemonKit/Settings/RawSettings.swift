import JobCore
import SystemPackage

/// Names a setting: section, label where there are many, key; without regard to case.
struct SettingID: Hashable, Sendable {
    let section: String
    let label: String?
    let key: String

    init(_ section: SectionName, label: String?, key: String) {
        self.section = section.title.lowercased()
        self.label = label?.lowercased()
        self.key = key.lowercased()
    }
}

/// The first step of two: the text of each setting and its place. No value has been read yet.
///
/// Layers come one upon the other: files in their order, then credentials, then the environment. Of a secret and the key that names its file,
/// the layer that sets either one replaces both.
struct RawSettings: Sendable {
    struct Entry: Sendable {
        let declaration: SettingDeclaration
        let label: String?
        var text: String
        let place: SettingPlace
    }

    let schema: SettingsSchema
    private(set) var entries: [SettingID: Entry] = [:]
    /// The labels of each section with labels, by the section's title in lower case, in the order of their appearance.
    private(set) var labels: [String: [String]] = [:]
    /// Where each of them was written first, by section and label; the key is empty.
    private(set) var sectionPlaces: [SettingID: SettingPlace] = [:]
    private(set) var problems: [SettingsProblem] = []
    /// Secrets whose file could not be read.
    private(set) var faulty: Set<SettingID> = []
    /// Whether a whole file could not be read.
    var lacksFile = false

    init(schema: SettingsSchema) { self.schema = schema }

    func entry(_ declaration: SettingDeclaration, label: String?) -> Entry? {
        entries[SettingID(declaration.section, label: label, key: declaration.name)]
    }

    /// What a secret's file said.
    mutating func set(_ declaration: SettingDeclaration, label: String?, text: String, place: SettingPlace) {
        entries[SettingID(declaration.section, label: label, key: declaration.name)] = Entry(
            declaration: declaration, label: label, text: text, place: place)
    }

    /// A secret's file could not be read; the problem is reported.
    mutating func setFaulty(_ declaration: SettingDeclaration, label: String?) {
        faulty.insert(SettingID(declaration.section, label: label, key: declaration.name))
    }

    mutating func report(_ problem: SettingsProblem) { problems.append(problem) }

    /// Lays one layer upon those before.
    private mutating func lay(_ layer: [SettingID: Entry]) {
        for entry in layer.values {
            if entry.declaration.isSecret { clearSecret(entry.declaration, label: entry.label) }
            if let secret = secret(ofFile: entry.declaration) { clearSecret(secret, label: entry.label) }
        }
        entries.merge(layer) { _, new in new }
        for (id, entry) in layer where entry.declaration.isSecret && !entry.text.isEmpty {
            guard let file = entry.declaration.companion else { continue }
            let other = SettingID(file.section, label: entry.label, key: file.name)
            if let other = layer[other], !other.text.isEmpty {
                problems.append(
                    other.problem(
                        .error, "\(entry.declaration.name) is set as well (\(entry.place))", hint: "keep one of the two"
                    ))
                entries[id] = nil
            }
        }
    }

    /// The secret whose file a key names.
    private func secret(ofFile file: SettingDeclaration) -> SettingDeclaration? {
        schema.sections.lazy.flatMap(\.keys).first {
            $0.isSecret && $0.section == file.section && $0.companion?.name == file.name
        }
    }

    private mutating func clearSecret(_ declaration: SettingDeclaration, label: String?) {
        entries[SettingID(declaration.section, label: label, key: declaration.name)] = nil
        entries[SettingID(declaration.section, label: label, key: "\(declaration.name)_FILE")] = nil
    }

    private mutating func note(label: String, of section: SectionName, at place: SettingPlace) {
        let id = SettingID(section, label: label, key: "")
        if sectionPlaces[id] == nil { sectionPlaces[id] = place }
        let known = labels[section.title.lowercased(), default: []]
        if !known.contains(where: { $0.isSameName(as: label) }) {
            labels[section.title.lowercased(), default: []].append(label)
        }
    }
}

extension RawSettings.Entry {
    /// A problem at this place; the value is shown unless it is a secret.
    func problem(_ severity: SettingsProblem.Severity, _ reason: String, hint: String) -> SettingsProblem {
        SettingsProblem(
            severity, place: place, section: declaration.section.filled(with: label), key: declaration.name,
            value: declaration.isSecret ? nil : text, reason: reason, hint: hint)
    }
}

// MARK: - Files

extension RawSettings {
    /// Lays a file upon what was read before. Unknown and retired names become warnings.
    ///
    /// - Returns: whether the file holds a secret.
    mutating func lay(_ document: INIDocument) -> Bool {
        problems += document.problems
        var layer: [SettingID: Entry] = [:]
        var holdsSecret = false
        for written in document.sections where !written.title.isEmpty {
            guard let (section, label) = schema.section(titled: written.title) else {
                refuseUnknown(written, in: document)
                continue
            }
            let place = SettingPlace.file(document.source, line: written.line)
            if let label { note(label: label, of: section.name, at: place) }
            if let replacement = section.replacement {
                warn(place, written.title, "no longer used: \(replacement)")
                continue
            }
            for item in written.items where lay(item, in: section, label: label, of: document, into: &layer) {
                holdsSecret = true
            }
        }
        lay(layer)
        return holdsSecret
    }

    private mutating func lay(
        _ item: INIDocument.Item, in section: SettingsSchema.Section, label: String?, of document: INIDocument,
        into layer: inout [SettingID: Entry]
    ) -> Bool {
        let place = SettingPlace.file(document.source, line: item.line)
        let title = section.name.filled(with: label)
        if let retired = section.retired.first(where: { $0.name.isSameName(as: item.key) }) {
            warn(place, title, key: item.key, "no longer used: \(retired.replacement)", hint: "take the line out")
            return retired.isSecret && !item.value.isEmpty
        }
        guard let declaration = section.key(item.key) else {
            let known = section.keys.filter(\.isListed).map(\.name) + section.retired.map(\.name)
            let owners = schema.sections.filter { $0.key(item.key) != nil }.map { "[\($0.name)]" }
            let hint =
                owners.isEmpty
                ? NearestName.of(item.key, among: known).map { "did you mean \($0)?" }
                    ?? "look it up in the table of settings in README.md, or take the line out"
                : "move the line to \(owners.joined(separator: " or "))"
            warn(place, title, key: item.key, "there is no such key in this section", hint: hint)
            return false
        }
        let id = SettingID(section.name, label: label, key: declaration.name)
        if let earlier = layer[id] {
            warn(
                place, title, key: declaration.name,
                "the key stands here a second time (first at \(earlier.place)): the last one counts",
                hint: "keep one of the two lines")
        }
        layer[id] = Entry(declaration: declaration, label: label, text: item.value, place: place)
        return declaration.isSecret && !item.value.isEmpty
    }

    private mutating func refuseUnknown(_ written: INIDocument.Section, in document: INIDocument) {
        let place = SettingPlace.file(document.source, line: written.line)
        let firstWord = written.title.split(separator: " ").first.map(String.init) ?? written.title
        if let plain = schema.sections.first(where: { $0.name.title.isSameName(as: written.title) }) {
            return warn(
                place, written.title, "the section needs a name; its keys are left unread",
                hint: "write [\(plain.name)]")
        }
        let titles = schema.sections.map(\.name.title)
        let nearest = NearestName.of(written.title, among: titles) ?? NearestName.of(firstWord, among: titles)
        let name = schema.sections.first { $0.name.title == nearest }?.name.description
        warn(
            place, written.title, "there is no such section; its keys are left unread",
            hint: name.map { "did you mean [\($0)]?" }
                ?? "look it up in the table of settings in README.md, or take the section out")
    }

    private mutating func warn(
        _ place: SettingPlace, _ section: String, key: String? = nil, _ reason: String, hint: String = ""
    ) {
        problems.append(
            SettingsProblem(.warning, place: place, section: section, key: key, reason: reason, hint: hint))
    }
}

// MARK: - Credentials and environment

extension RawSettings {
    /// Lays credentials upon what was read before.
    ///
    /// - Parameter contents: gives a credential's text and place by its name, `nil` when there is none.
    mutating func layCredentials(_ contents: (String) -> (text: String, place: SettingPlace)?) {
        var layer: [SettingID: Entry] = [:]
        for declaration in schema.sections.flatMap(\.keys) where declaration.isSecret {
            guard declaration.section.placeholder == nil, let found = contents(declaration.credentialName) else {
                continue
            }
            layer[SettingID(declaration.section, label: nil, key: declaration.name)] = Entry(
                declaration: declaration, label: nil, text: found.text, place: found.place)
        }
        lay(layer)
    }

    /// Lays the environment upon what was read before.
    ///
    /// `PROV_<SECTION>_<KEY>`; in a section with labels `PROV_<SECTION>_<LABEL>_<KEY>`, where a label known from the files
    /// is meant by its letters and digits alone, and any other opens a section of that name in lower case.
    mutating func lay(environment: [String: String]) {
        var layer: [SettingID: Entry] = [:]
        for (name, text) in environment.sorted(by: { $0.key < $1.key })
        where name.hasPrefix("PROV_") && !schema.otherVariables.contains(name) {
            guard let (declaration, label) = meaning(ofVariable: name) else {
                refuseUnknown(variable: name)
                continue
            }
            if let label { note(label: label, of: declaration.section, at: .environment(name)) }
            let id = SettingID(declaration.section, label: label, key: declaration.name)
            layer[id] = Entry(
                declaration: declaration, label: label, text: String(text[...].trimmingBlanks),
                place: .environment(name))
        }
        lay(layer)
    }

    private func meaning(ofVariable name: String) -> (SettingDeclaration, label: String?)? {
        for section in schema.sections where section.name.placeholder == nil {
            if let key = section.keys.first(where: { $0.environmentName() == name }) { return (key, nil) }
        }
        for section in schema.sections where section.name.placeholder != nil {
            let prefix = "PROV_\(SettingDeclaration.environmentWord(section.name.title))_"
            guard name.hasPrefix(prefix) else { continue }
            for key in section.keys {
                let suffix = "_\(SettingDeclaration.environmentWord(key.name))"
                guard name.hasSuffix(suffix), name.utf8.count > prefix.utf8.count + suffix.utf8.count else { continue }
                let word = String(name.dropFirst(prefix.count).dropLast(suffix.count))
                let known = labels[section.name.title.lowercased(), default: []]
                return (key, label: known.first { SettingDeclaration.environmentWord($0) == word } ?? word.lowercased())
            }
        }
        return nil
    }

    /// Only what begins like one of our sections: scripts know other names that begin with PROV_.
    private mutating func refuseUnknown(variable name: String) {
        let sections = schema.sections.filter {
            name.hasPrefix("PROV_\(SettingDeclaration.environmentWord($0.name.title))_")
        }
        guard !sections.isEmpty, sections.allSatisfy({ $0.replacement == nil }) else { return }
        let known = sections.flatMap(\.keys).filter(\.isListed).map {
            $0.environmentName(label: $0.section.placeholder)
        }
        report(
            SettingsProblem(
                .warning, place: .environment(name), reason: "there is no such setting",
                hint: NearestName.of(name, among: known).map { "did you mean \($0)?" } ?? "take the variable away"))
    }
}

// MARK: - Reading

extension RawSettings {
    /// Reads all layers and finds all errors in one pass; see ``Settings/init(_:files:environment:)``.
    mutating func read(files: [FilePath], environment: [String: String]) {
        for path in files {
            do throws(SettingsFile.Unreadable) {
                let file = try SettingsFile(reading: path)
                let holdsSecret = lay(INIDocument(parsing: file.bytes, source: path.string))
                if holdsSecret, file.isOpenToOthers {
                    report(
                        .unprotected(path, reason: "the file holds a password and others can read or write it"))
                }
            } catch {
                lacksFile = true
                report(
                    SettingsProblem(.error, place: .wholeFile(path.string), reason: error.reason, hint: error.hint))
            }
        }
        var failures: [SettingsProblem] = []
        if let directory = environment["CREDENTIALS_DIRECTORY"], !directory.isEmpty {
            layCredentials { name in
                let path = FilePath(directory).appending(name)
                do throws(SettingsFile.Unreadable) {
                    // Who may read a credential is systemd's affair: the mode shows the mask of an access list.
                    guard let file = try SettingsFile(readingIfPresent: path) else { return nil }
                    guard let text = file.secretText else { throw .notText }
                    return (text, .credential(path.string))
                } catch {
                    failures.append(
                        SettingsProblem(.error, place: .credential(path.string), reason: error.reason, hint: error.hint)
                    )
                    return nil
                }
            }
        }
        failures.forEach { report($0) }
        lay(environment: environment)
        readSecretFiles()
    }

    private mutating func readSecretFiles() {
        for secret in schema.sections.flatMap(\.keys) where secret.isSecret {
            guard let companion = secret.companion else { continue }
            let labels: [String?] =
                secret.section.placeholder == nil ? [nil] : labels[secret.section.title.lowercased(), default: []]
            for label in labels {
                guard let entry = entry(companion, label: label), !entry.text.isEmpty else { continue }
                guard entry.text.hasPrefix("/") else {
                    setFaulty(secret, label: label)
                    continue
                }
                do throws(SettingsFile.Unreadable) {
                    let path = FilePath(entry.text)
                    let file = try SettingsFile(reading: path)
                    if file.isOpenToOthers {
                        report(.unprotected(path, reason: "others can read or write this file with \(secret.name)"))
                    }
                    guard let text = file.secretText else { throw .notText }
                    guard !text.isEmpty else { throw .empty }
                    set(secret, label: label, text: text, place: entry.place)
                } catch {
                    setFaulty(secret, label: label)
                    report(entry.problem(.error, error.reason, hint: error.hint))
                }
            }
        }
    }
}

extension SettingsProblem {
    fileprivate static func unprotected(_ path: FilePath, reason: String) -> Self {
        SettingsProblem(
            .error, place: .wholeFile(path.string), reason: reason, hint: "run: chmod 600 \(path.shellWord)")
    }
}
