/// The events that handlers can be called for (specification: rows.md B2), named as their methods are.
enum EventName: String, Codable, CaseIterable, Hashable, Sendable {
    case jobStart = "JobStart"
    case jobEnd = "JobEnd"
    case exit = "Exit"
    case jobInit = "JobInit"
    case jobRun = "JobRun"
    case newVolume = "NewVolume"
    case volumePurged = "VolumePurged"
}
