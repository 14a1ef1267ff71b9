package import JobCore
package import SystemPackage

/// All settings that were read, with their places and problems.
///
/// A setting with an error has its default value, so that checks across settings still work and one pass finds all errors.
package struct Settings: Sendable {
    struct Entry: Sendable {
        let declaration: SettingDeclaration
        let label: String?
        /// Empty for a secret, after its value was read.
        fileprivate(set) var text: String
        let place: SettingPlace
        /// nil: the text is wrong.
        var value: SettingValue?

        var id: String { declaration.id(label) }

        /// A problem at this place, with the value unless it is secret.
        func problem(_ severity: SettingsProblem.Severity, _ reason: String, hint: String) -> SettingsProblem {
            SettingsProblem(
                severity: severity, place: place, section: declaration.section.filled(with: label),
                key: declaration.name, value: declaration.isSecret ? nil : text, reason: reason, hint: hint)
        }
    }

    let schema: SettingsSchema
    /// The entries by their identities, see ``SettingDeclaration/id(_:)``.
    var entries: [String: Entry] = [:]
    /// Settings with an error: a wrong text, or an unreadable file of a secret.
    var faulty: Set<String> = []
    /// The labels of labelled sections with their first places, in the order of their appearance.
    var labelled: [(section: SectionName, label: String, place: SettingPlace)] = []
    var problems: [SettingsProblem] = []
    /// Whether a file could not be read: then missing keys are unknown.
    package internal(set) var lacksFile = false

    /// Reads the settings files, the systemd credentials and the environment, and collects all problems.
    ///
    /// - Parameters:
    ///   - schema: the known sections and keys.
    ///   - files: later files override earlier ones.
    ///   - environment: `CREDENTIALS_DIRECTORY` overrides the files, and `PROV_…` variables override both.
    package init(_ schema: SettingsSchema, files: [FilePath], environment: [String: String]) {
        self.schema = schema
        readLayers(files: files, environment: environment)
        for (id, entry) in entries {
            do throws(SettingValueError) {
                entries[id]?.value = try entry.declaration.parse(entry.text)
                if entry.declaration.isSecret { entries[id]?.text = "" }
            } catch {
                faulty.insert(id)
                problems.append(entry.problem(.error, error.reason, hint: error.hint))
            }
        }
    }

    /// The settings cannot be used with errors. In the order of the files.
    package var errors: [SettingsProblem] { problems(.error) }
    /// The warnings, in the order of the files.
    package var warnings: [SettingsProblem] { problems(.warning) }

    private func problems(_ severity: SettingsProblem.Severity) -> [SettingsProblem] {
        problems.filter { $0.severity == severity }.sorted { $0.place.isBefore($1.place) }
    }

    /// The values of a section, with defaults for keys that are not set.
    ///
    /// - Parameter label: of a labelled section.
    package subscript<Section: SettingsSection>(_ section: Section.Type, label label: String? = nil) -> Section {
        var values = Section()
        for key in Section.keys {
            if let value = entries[key.declaration.id(label)]?.value { key.set(value, in: &values) }
        }
        return values
    }

    /// The labels of a labelled section, in the order of the files.
    package func labels<Section: SettingsSection>(of section: Section.Type) -> [String] {
        labels(of: Section.section)
    }

    func labels(of section: SectionName) -> [String] { labelled.filter { $0.section == section }.map(\.label) }

    /// The settings in force after a reload: those that need a restart have their values of the start.
    package func untilRestart(of start: Settings) -> Settings {
        var inForce = self
        inForce.entries = entries.filter { !$0.value.declaration.needsRestart }
            .merging(start.entries.filter { $0.value.declaration.needsRestart }) { own, _ in own }
        return inForce
    }

    /// `[Section] KEY` of every setting that differs from `old`, sorted. Contains no values.
    ///
    /// - Parameter isRestartNeeded: only settings that need a restart.
    package func changes(since old: Settings, isRestartNeeded: Bool = false) -> [String] {
        entries.merging(old.entries) { own, _ in own }.compactMap { id, entry in
            let declaration = entry.declaration
            if isRestartNeeded, !declaration.needsRestart { return nil }
            let new: SettingValue = entries[id]?.value ?? declaration.defaultValue
            let old: SettingValue = old.entries[id]?.value ?? declaration.defaultValue
            return AnyHashable(new) == AnyHashable(old)
                ? nil : "[\(declaration.section.filled(with: entry.label))] \(declaration.name)"
        }.sorted()
    }

    /// Whether any key of a labelled section is set, even to a wrong value.
    package func isSet<Section: SettingsSection>(_ section: Section.Type, label: String) -> Bool {
        Section.keys.contains { entries[$0.declaration.id(label)] != nil }
    }

    /// Whether the setting has an error and therefore its default value.
    package func isFaulty<Section: SettingsSection>(_ property: PartialKeyPath<Section>) -> Bool {
        declaration(of: property).map { faulty.contains($0.id(nil)) } ?? false
    }

    /// The errors that make the value of a setting unknown, or a secret public: of whole files, otherwise its own.
    package func errors<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> [SettingsProblem] {
        let declaration = declaration(of: property)
        return errors.filter { error in
            if case .wholeFile = error.place { return lacksFile || declaration?.isSecret == true }
            return !lacksFile && error.section == Section.section.title && error.key == declaration?.name
        }
    }

    /// The place of the setting.
    package func place<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingPlace {
        declaration(of: property).flatMap { entries[$0.id(nil)]?.place } ?? .nowhere
    }

    /// The file of a secret; nil: the settings contain the secret itself.
    package func file<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> String? {
        declaration(of: property)?.companion.flatMap { entries[$0.id(nil)]?.text }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Adds an error about a labelled section.
    package mutating func refuse<Section: SettingsSection>(
        _ section: Section.Type, label: String, _ reason: String, hint: String
    ) {
        add(.error, Section.self, nil, label, reason, hint: hint)
    }

    /// Adds an error about a setting, unless it already has one.
    package mutating func refuse<Section: SettingsSection>(
        _ property: PartialKeyPath<Section>, label: String? = nil, _ reason: String, hint: String
    ) {
        let declaration = declaration(of: property)
        if let declaration, faulty.contains(declaration.id(label)) { return }
        add(.error, Section.self, declaration, label, reason, hint: hint)
    }

    /// Adds a warning about a setting.
    package mutating func warn<Section: SettingsSection>(
        _ property: PartialKeyPath<Section>, label: String? = nil, _ reason: String, hint: String
    ) {
        add(.warning, Section.self, declaration(of: property), label, reason, hint: hint)
    }

    private mutating func add<Section: SettingsSection>(
        _ severity: SettingsProblem.Severity, _ section: Section.Type, _ declaration: SettingDeclaration?,
        _ label: String?, _ reason: String, hint: String
    ) {
        if let declaration, let entry = entries[declaration.id(label)] {
            return problems.append(entry.problem(severity, reason, hint: hint))
        }
        let written = labelled.first { $0.section == Section.section && $0.label.isSameName(as: label ?? "") }
        problems.append(
            SettingsProblem(
                severity: severity, place: written?.place ?? .nowhere,
                section: Section.section.filled(with: label), key: declaration?.name, reason: reason, hint: hint))
    }

    private func declaration<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingDeclaration? {
        Section.keys.first { $0.property.map { $0 as PartialKeyPath<Section> } == property }?.declaration
    }
}

extension SettingDeclaration {
    /// The identity of a setting: section, label of a labelled section, key. Case is ignored.
    func id(_ label: String?) -> String { "\(section.title)/\(label ?? "")/\(name)".lowercased() }
}

extension SettingPlace {
    /// Files first, sorted by line.
    fileprivate func isBefore(_ other: Self) -> Bool { rank < other.rank }

    private var rank: (Int, String, Int) {
        switch self {
        case .wholeFile(let path): (0, path, 0)
        case .file(let path, let line): (0, path, line)
        case .credential(let path): (1, path, 0)
        case .environment(let name): (2, name, 0)
        case .nowhere: (3, "", 0)
        }
    }
}

/// All known sections. A test generates the reference and the shipped files from them.
package struct SettingsSchema: Sendable {
    /// The declaration of a section.
    package struct Section: Sendable {
        package let name: SectionName
        package let meaning: String
        /// The keys, in the order of the reference, including those for files of secrets.
        package let keys: [SettingDeclaration]
        let retired: [RetiredSetting]
        let unknownKey: SettingValueError?
        /// What replaces a section that is accepted and ignored; nil: it is not ignored.
        package let replacement: String?

        package init<Settings: SettingsSection>(_ section: Settings.Type) {
            name = Settings.section
            meaning = Settings.meaning
            keys = Settings.keys.map(\.declaration).flatMap { [$0] + [$0.companion].compactMap(\.self) }
            retired = Settings.retired
            unknownKey = Settings.unknownKey
            replacement = nil
        }

        package init(retired title: String, replacement: String) {
            name = SectionName(title)
            meaning = ""
            keys = []
            retired = []
            unknownKey = nil
            self.replacement = replacement
        }

        func key(_ name: String) -> SettingDeclaration? { keys.first { $0.name.isSameName(as: name) } }
    }

    package let sections: [Section]
    let otherVariables: Set<String>
    /// The secrets, each with the key of its file. Sections with labels have none.
    var secrets: [(secret: SettingDeclaration, file: SettingDeclaration)] {
        sections.filter { $0.name.placeholder == nil }.flatMap(\.keys).compactMap { key in
            key.companion.map { (key, $0) }
        }
    }

    /// - Parameters:
    ///   - sections: in the order of the reference.
    ///   - otherVariables: environment variables whose names begin with `PROV_` and that are not settings.
    package init(_ sections: [Section], otherVariables: Set<String> = []) {
        self.sections = sections
        self.otherVariables = otherVariables
    }

    /// - Returns: the section of a title and, for a labelled section, the label; nil: unknown.
    func section(titled title: String) -> (section: Section, label: String?)? {
        let words = title.split { $0 == " " || $0 == "\t" }
        for section in sections {
            let own = section.name.title.split(separator: " ")
            let isSame =
                words.count >= own.count && zip(words, own).allSatisfy { String($0).isSameName(as: String($1)) }
            guard isSame else { continue }
            let rest = words.dropFirst(own.count).joined(separator: " ")
            if section.name.placeholder == nil, rest.isEmpty { return (section, nil) }
            if section.name.placeholder != nil, !rest.isEmpty { return (section, rest) }
        }
        return nil
    }
}

extension String {
    /// Keys, sections and labels are not case-sensitive.
    func isSameName(as other: String) -> Bool { lowercased() == other.lowercased() }
}

extension SettingDeclaration {
    /// Whether the reference contains the setting.
    package var isListed: Bool { !row.isEmpty }
}

/// The place of a setting.
package enum SettingPlace: Hashable, Sendable, CustomStringConvertible {
    /// A line of a settings file, from 1.
    case file(String, line: Int)
    /// A settings file as a whole.
    case wholeFile(String)
    /// An environment variable.
    case environment(String)
    /// A systemd credential.
    case credential(String)
    /// A default, or a missing key.
    case nowhere

    package var description: String {
        switch self {
        case .file(let path, let line): "\(path):\(line)"
        case .wholeFile(let path): path
        case .environment(let name): "environment variable \(name)"
        case .credential(let path): "credential \(path)"
        case .nowhere: "settings"
        }
    }
}

/// A problem with the settings, with place and hint. Contains no secrets.
package struct SettingsProblem: Hashable, Sendable, CustomStringConvertible {
    package enum Severity: String, Hashable, Sendable {
        /// The settings can be used.
        case warning
        case error
    }

    package var severity: Severity
    package var place: SettingPlace
    package var section: String?
    package var key: String?
    /// nil for secrets.
    package var value: String?
    package var reason: String
    /// Empty if the reason contains it.
    package var hint = ""

    /// `FILE:LINE: [Section] KEY = value: reason`, always one line.
    package var finding: String {
        var parts = [place.description]
        var subject = section.map { "[\($0)]" } ?? ""
        if let key { subject += (subject.isEmpty ? "" : " ") + key }
        if let value { subject += " = \(value)" }
        if !subject.isEmpty { parts.append(subject) }
        return OneLine.escaping((parts + [reason]).joined(separator: ": "))
    }

    /// The finding and the hint, on one line.
    package var description: String { hint.isEmpty ? finding : "\(finding); \(OneLine.escaping(hint))" }
}
