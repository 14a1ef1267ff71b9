package import JobCore
package import SystemPackage

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

/// All settings as they were read: the value of each that is set, with its place, and what is wrong with them.
///
/// Where a value could not be read, the default counts and ``errors`` names it, so that checks across settings can still be made and all errors
/// are found in one pass.
package struct Settings: Sendable {
    struct Entry: Sendable {
        let declaration: SettingDeclaration
        let label: String?
        /// Empty for a secret, once its value was read.
        fileprivate(set) var text: String
        let place: SettingPlace
        /// `nil`: the text is wrong.
        var value: SettingValue?

        var id: SettingID { declaration.id(label) }

        /// A problem at this place; the value is shown unless it is a secret.
        func problem(_ severity: SettingsProblem.Severity, _ reason: String, hint: String) -> SettingsProblem {
            SettingsProblem(
                severity: severity, place: place, section: declaration.section.filled(with: label),
                key: declaration.name, value: declaration.isSecret ? nil : text, reason: reason, hint: hint)
        }
    }

    let schema: SettingsSchema
    var entries: [SettingID: Entry] = [:]
    /// Settings with an error: a wrong text, or a secret's file that could not be read.
    var faulty: Set<SettingID> = []
    /// The labels of each section with labels, by the section's title in lower case, in the order of their appearance.
    var labels: [String: [String]] = [:]
    /// Where each of them was written first, by section and label; the key is empty.
    var sectionPlaces: [SettingID: SettingPlace] = [:]
    var problems: [SettingsProblem] = []
    /// Whether a whole file could not be read: then it is not known what is missing.
    package internal(set) var lacksFile = false

    /// Reads settings from their files, the systemd credentials and the environment. All errors are collected; nothing is thrown.
    ///
    /// - Parameters:
    ///   - schema: what the files may hold.
    ///   - files: the global file before the service file: the later one wins.
    ///   - environment: `PROV_…` variables win over the files; `CREDENTIALS_DIRECTORY` names systemd's credentials, which
    ///     come between the two.
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

    /// They forbid the use of these settings; in the order of the files.
    package var errors: [SettingsProblem] { problems(.error) }
    /// In the order of the files.
    package var warnings: [SettingsProblem] { problems(.warning) }

    package var error: SettingsError { SettingsError(errors: errors, warnings: warnings) }

    private func problems(_ severity: SettingsProblem.Severity) -> [SettingsProblem] {
        problems.filter { $0.severity == severity }.sorted { $0.place.isBefore($1.place) }
    }

    /// A section with its values, the defaults where they are not set.
    ///
    /// - Parameter label: for a section with labels, which one.
    package subscript<Section: SettingsSection>(_ section: Section.Type, label label: String? = nil) -> Section {
        var values = Section()
        for key in Section.keys {
            if let value = entries[key.declaration.id(label)]?.value { key.set(value, in: &values) }
        }
        return values
    }

    /// The labels of a section that there may be many of, in the order in which they were written.
    package func labels<Section: SettingsSection>(of section: Section.Type) -> [String] {
        labels[Section.section.title.lowercased(), default: []]
    }

    /// `[Section] KEY` of every setting whose value is not what it is in `old`, sorted. Never holds a value.
    ///
    /// - Parameter isRestartNeeded: only settings that take effect at the daemon's next start.
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

    /// Whether any key of a section with a label is set, even wrongly.
    package func isSet<Section: SettingsSection>(_ section: Section.Type, label: String) -> Bool {
        Section.keys.contains { entries[$0.declaration.id(label)] != nil }
    }

    /// Whether the setting has an error already, so that its default counts.
    package func isFaulty<Section: SettingsSection>(_ property: PartialKeyPath<Section>) -> Bool {
        declaration(of: property).map { faulty.contains($0.id(nil)) } ?? false
    }

    /// The errors that keep a setting from being known: those of whole files, else its own.
    package func errors<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> [SettingsProblem] {
        errors.filter { error in
            if lacksFile { return if case .wholeFile = error.place { true } else { false } }
            return error.section == Section.section.title && error.key == declaration(of: property)?.name
        }
    }

    /// Where the setting was written.
    package func place<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingPlace {
        declaration(of: property).flatMap { entries[$0.id(nil)]?.place } ?? .nowhere
    }

    /// The file that a secret was read from; `nil` where the settings hold the secret itself.
    package func file<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> String? {
        declaration(of: property)?.companion.flatMap { entries[$0.id(nil)]?.text }.flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Adds an error about a section with a label as a whole.
    package mutating func refuse<Section: SettingsSection>(
        _ section: Section.Type, label: String, _ reason: String, hint: String
    ) {
        add(.error, Section.self, nil, label, reason, hint: hint)
    }

    /// Adds an error about a setting, as a check across settings finds it. A setting that could not be read has its error already and gets no
    /// second one.
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
        problems.append(
            SettingsProblem(
                severity: severity,
                place: sectionPlaces[SettingID(Section.section, label: label, key: "")] ?? .nowhere,
                section: Section.section.filled(with: label), key: declaration?.name, reason: reason, hint: hint))
    }

    private func declaration<Section: SettingsSection>(of property: PartialKeyPath<Section>) -> SettingDeclaration? {
        Section.keys.first { $0.property.map { $0 as PartialKeyPath<Section> } == property }?.declaration
    }
}

extension SettingDeclaration {
    func id(_ label: String?) -> SettingID { SettingID(section, label: label, key: name) }
}

extension SettingPlace {
    /// Files first, each by its lines.
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
