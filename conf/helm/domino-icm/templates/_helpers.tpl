{{- define "domino-icm.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 57 | trimSuffix "-" }}
{{- end }}

{{- define "domino-icm.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 57 | trimSuffix "-" }}
{{- else if contains (include "domino-icm.name" .) .Release.Name }}
{{- .Release.Name | trunc 57 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "domino-icm.name" .) | trunc 57 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "domino-icm.selectorLabels" -}}
app.kubernetes.io/name: {{ include "domino-icm.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "domino-icm.labels" -}}
{{ include "domino-icm.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "domino-icm.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The text of icm.yaml. */}}
{{- define "domino-icm.config" -}}
{{- $config := required "config is missing: give it your icm.yaml, for example with --set-file config=icm.yaml" .Values.config }}
{{- if kindIs "string" $config }}{{ $config }}{{ else }}{{ toYaml $config }}{{ end }}
{{- end }}

{{/* The settings in it as YAML, after the checks of what Kubernetes needs. Everything else is for `icm check`. */}}
{{- define "domino-icm.settings" -}}
{{- $settings := include "domino-icm.config" . | fromYaml }}
{{- with $settings.Error }}{{ fail (printf "config is not YAML: %s" .) }}{{ end }}
{{- $address := dig "admin" "address" "" $settings | toString }}
{{- $suffix := printf ":%d" (int .Values.admin.port) }}
{{- if or (not (hasSuffix $suffix $address)) (hasPrefix "127." $address) (hasPrefix "[::1]" $address) (hasPrefix "localhost" $address) }}
{{- fail (printf "config: admin.address is %q; the probes need \"0.0.0.0%s\" (the port is the value admin.port)" $address $suffix) }}
{{- end }}
{{- range $port := .Values.service.ports }}
{{- $found := false }}
{{- range $settings.listeners }}
{{- if hasSuffix (printf ":%d" (int $port.targetPort)) (.address | toString) }}{{ $found = true }}{{ end }}
{{- end }}
{{- if not $found }}{{ fail (printf "service.ports: %s leads to port %d, which no listener of config has" $port.name (int $port.targetPort)) }}{{ end }}
{{- end }}
{{- toYaml $settings }}
{{- end }}
