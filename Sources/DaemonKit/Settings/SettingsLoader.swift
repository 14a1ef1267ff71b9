import JobCore
public import SystemPackage

/// Reads settings from their files, the systemd credentials and the environment.
public struct SettingsLoader: Sendable {
    private let schema: SettingsSchema

    /// - Parameter schema: what the files may hold.
    public init(_ schema: SettingsSchema) { self.schema = schema }

    /// Reads everything and finds everything that is wrong with it; nothing is thrown on the way.
    ///
    /// - Parameters:
    ///   - files: the global file before the service file: the later one wins.
    ///   - environment: `PROV_…` variables win over the files; `CREDENTIALS_DIRECTORY` names systemd's credentials, which
    ///     stand between the two.
    public func load(files: [FilePath], environment: [String: String]) -> Settings {
        var raw = RawSettings(schema: schema)
        for path in files {
            do throws(SettingsFile.Unreadable) {
                let file = try SettingsFile(reading: path)
                let holdsSecret = raw.lay(INIDocument(parsing: file.bytes, source: path.string))
                if holdsSecret, file.isOpenToOthers {
                    raw.report(
                        .unprotected(path, reason: "the file holds a password and others can read or write it"))
                }
            } catch {
                raw.lacksFile = true
                raw.report(
                    SettingsProblem(.error, place: .wholeFile(path.string), reason: error.reason, cure: error.cure))
            }
        }
        var failures: [SettingsProblem] = []
        if let directory = environment["CREDENTIALS_DIRECTORY"], !directory.isEmpty {
            raw.layCredentials { name in
                let path = FilePath(directory).appending(name)
                do throws(SettingsFile.Unreadable) {
                    // Who may read a credential is systemd's affair: the mode shows the mask of an access list.
                    guard let file = try SettingsFile(readingIfPresent: path) else { return nil }
                    guard let text = file.secretText else { throw .notText }
                    return (text, .credential(path.string))
                } catch {
                    failures.append(
                        SettingsProblem(.error, place: .credential(path.string), reason: error.reason, cure: error.cure)
                    )
                    return nil
                }
            }
        }
        failures.forEach { raw.report($0) }
        raw.lay(environment: environment)
        readSecretFiles(into: &raw)
        return Settings(raw)
    }

    private func readSecretFiles(into raw: inout RawSettings) {
        for secret in schema.sections.flatMap(\.keys) where secret.isSecret {
            guard let companion = secret.companion else { continue }
            let labels: [String?] =
                secret.section.placeholder == nil ? [nil] : raw.labels[secret.section.title.lowercased(), default: []]
            for label in labels {
                guard let entry = raw.entry(companion, label: label), !entry.text.isEmpty else { continue }
                guard entry.text.hasPrefix("/") else {
                    raw.setFaulty(secret, label: label)
                    continue
                }
                do throws(SettingsFile.Unreadable) {
                    let path = FilePath(entry.text)
                    let file = try SettingsFile(reading: path)
                    if file.isOpenToOthers {
                        raw.report(.unprotected(path, reason: "others can read or write this file with \(secret.name)"))
                    }
                    guard let text = file.secretText else { throw .notText }
                    guard !text.isEmpty else { throw .empty }
                    raw.set(secret, label: label, text: text, place: entry.place)
                } catch {
                    raw.setFaulty(secret, label: label)
                    raw.report(entry.problem(.error, error.reason, cure: error.cure))
                }
            }
        }
    }
}

extension SettingsProblem {
    fileprivate static func unprotected(_ path: FilePath, reason: String) -> Self {
        SettingsProblem(
            .error, place: .wholeFile(path.string), reason: reason, cure: "run: chmod 600 \(path.shellWord)")
    }
}
